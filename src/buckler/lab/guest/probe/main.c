/* SPDX-License-Identifier: Apache-2.0 */
/* The one program of the lab's guests besides busybox. */
#include "probe.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} verbs[] = {
    {"serve", run_serve}, {"get", run_get},   {"scan", run_scan}, {"hammer", run_hammer}, {"watch", run_watch},
    {"hold", run_hold},	  {"keep", run_keep}, {"pour", run_pour}, {"agent", run_agent},	  {"worm", run_worm},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argc - 2, argv + 2);
	fprintf(stderr, "usage: probe serve|get|scan|hammer|watch|hold|keep|pour|agent …\n");
	return 2;
}
