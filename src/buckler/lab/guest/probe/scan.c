/* SPDX-License-Identifier: Apache-2.0 */
/* `probe scan TIMEOUT_MS TARGET…`: ask many targets at once; one line each: TARGET open|refused|timeout|unreachable. */
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST 1024
#define RESEND_MS 300

static struct target targets[MOST];
static struct pollfd sockets[MOST];
static const char *answers[MOST];

static const char *name_error(int error)
{
	return error == ECONNREFUSED ? "refused" : "unreachable";
}

static void settle(int at, const char *answer)
{
	answers[at] = answer;
	if (sockets[at].fd >= 0)
		close(sockets[at].fd);
	sockets[at].fd = -1;
}

static void look(int at)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (!sockets[at].revents || answers[at])
		return;
	getsockopt(sockets[at].fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error)
		settle(at, name_error(error));
	else if (targets[at].kind == KIND_TCP || target_answered(&targets[at], sockets[at].fd))
		settle(at, "open");
}

int run_scan(int argc, char **argv)
{
	int count = argc - 1, open = count;
	int64_t end, resend = 0;

	if (count < 1 || count > MOST)
		return 2;
	end = now_ms() + atoi(argv[0]);
	for (int i = 0; i < count; i++) {
		if (!target_parse(argv[i + 1], &targets[i])) {
			fprintf(stderr, "probe: not a target: %s\n", argv[i + 1]);
			return 2;
		}
		sockets[i].fd = target_open(&targets[i]);
		sockets[i].events = targets[i].kind == KIND_TCP ? POLLOUT : POLLIN;
		if (sockets[i].fd < 0)
			answers[i] = name_error(errno);
	}
	for (uint16_t sequence = 0; open && now_ms() < end;) {
		if (now_ms() >= resend) {
			for (int i = 0; i < count; i++)
				if (!answers[i] && targets[i].kind != KIND_TCP)
					target_send(&targets[i], sockets[i].fd, sequence);
			sequence++;
			resend = now_ms() + RESEND_MS;
		}
		poll(sockets, count, 20);
		open = 0;
		for (int i = 0; i < count; i++) {
			look(i);
			open += !answers[i];
		}
	}
	for (int i = 0; i < count; i++)
		printf("%s %s\n", targets[i].text, answers[i] ? answers[i] : "timeout");
	return 0;
}
