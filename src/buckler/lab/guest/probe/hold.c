/* SPDX-License-Identifier: Apache-2.0 */
/* `probe hold RESULT INTERVAL_MS TARGET`: one TCP connection that speaks all the time and tells when it falls silent.
 */
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long sent, received;
static int64_t last_answer, longest_silence;

static void report(const char *path, const char *state)
{
	char text[160];

	snprintf(text, sizeof(text), "state %s sent %ld received %ld silent_ms %lld longest_silence_ms %lld\n", state,
		 sent, received, (long long)(now_ms() - last_answer), (long long)longest_silence);
	write_result(path, text);
}

int run_hold(int argc, char **argv)
{
	struct target target;
	int64_t due = 0, told = 0;
	const char *state = "open";
	int fd;

	if (argc != 3 || !target_parse(argv[2], &target) || target.kind != KIND_TCP)
		return 2;
	stop_on_signal();
	last_answer = now_ms();
	fd = target_connect(&target);
	if (fd < 0)
		state = "failed";
	last_answer = now_ms();
	while (!stopping && !strcmp(state, "open")) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		int64_t now = now_ms(), silence = now - last_answer;
		char bytes[4096];
		ssize_t length;

		if (silence > longest_silence)
			longest_silence = silence;
		if (now >= due) {
			if (send(fd, "hold\n", 5, MSG_NOSIGNAL) == 5)
				sent++;
			due = now + atoi(argv[1]);
		}
		if (poll(&wait, 1, due - now > 0 ? due - now : 0) > 0) {
			length = recv(fd, bytes, sizeof(bytes), 0);
			if (length > 0) {
				received += length / 5;
				last_answer = now_ms();
			} else if (length == 0 || errno != EAGAIN) {
				state = "broken";
			}
		}
		if (now - told > 200) {
			report(argv[0], state);
			told = now;
		}
	}
	report(argv[0], state);
	return strcmp(state, "open") != 0;
}
