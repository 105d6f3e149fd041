/* SPDX-License-Identifier: Apache-2.0 */
/* `probe hammer RESULT INTERVAL_MS SECONDS TARGET…`: one packet every interval, the targets in turn; counts answers.
 * A forbidden packet that is answered even once has passed. SECONDS 0 = until SIGTERM. */
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_TARGETS 48
#define ATTEMPTS 64 /* TCP attempts that are listened to at one time */

static struct target targets[MOST_TARGETS];
static struct pollfd sockets[MOST_TARGETS + ATTEMPTS];
static long sent, answered;
static int64_t longest_pause;

static void attempt(const struct target *target, struct pollfd *slot)
{
	if (slot->fd >= 0)
		close(slot->fd);
	slot->fd = target_open(target);
	slot->events = POLLOUT;
	if (slot->fd < 0 && errno == ECONNREFUSED)
		answered++;
}

static void look(int count)
{
	for (int i = 0; i < count; i++) {
		int error = 0;
		socklen_t size = sizeof(error);

		if (sockets[i].revents & POLLERR) {
			getsockopt(sockets[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
			answered += error == ECONNREFUSED;
		}
		if (sockets[i].revents & POLLIN && target_answered(&targets[i], sockets[i].fd))
			answered++;
	}
	for (int i = MOST_TARGETS; i < MOST_TARGETS + ATTEMPTS; i++) {
		int error = 0;
		socklen_t size = sizeof(error);

		if (sockets[i].fd < 0 || !sockets[i].revents)
			continue;
		getsockopt(sockets[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (!error || error == ECONNREFUSED) /* a SYN+ACK or a RST came back */
			answered++;
		close(sockets[i].fd);
		sockets[i].fd = -1;
	}
}

static void report(const char *path)
{
	char text[128];

	snprintf(text, sizeof(text), "sent %ld answered %ld longest_pause_ms %lld\n", sent, answered,
		 (long long)longest_pause);
	write_result(path, text);
}

int run_hammer(int argc, char **argv)
{
	int count = argc - 3, interval, slot = 0;
	int64_t start = now_ms(), last = start, due = start, told = start, end;

	if (count < 1 || count > MOST_TARGETS)
		return 2;
	interval = atoi(argv[1]);
	end = atoi(argv[2]) ? start + atoi(argv[2]) * 1000LL : INT64_MAX;
	for (int i = 0; i < MOST_TARGETS + ATTEMPTS; i++)
		sockets[i].fd = -1;
	for (int i = 0; i < count; i++) {
		if (!target_parse(argv[i + 3], &targets[i]))
			return 2;
		if (targets[i].kind != KIND_TCP)
			sockets[i].fd = target_open(&targets[i]);
		sockets[i].events = POLLIN;
	}
	stop_on_signal();
	while (!stopping && now_ms() < end) {
		int64_t now = now_ms(), wait;

		if (now >= due) {
			struct target *target = &targets[sent % count];

			if (target->kind == KIND_TCP)
				attempt(target, &sockets[MOST_TARGETS + slot++ % ATTEMPTS]);
			else
				target_send(target, sockets[sent % count].fd, sent & 0xffff);
			sent++;
			if (now - last > longest_pause)
				longest_pause = now - last;
			last = now;
			due = due + interval > now ? due + interval : now + interval;
		}
		wait = due - now_ms(); /* read once: a negative wait would never end */
		if (poll(sockets, MOST_TARGETS + ATTEMPTS, wait > 0 ? wait : 0) > 0)
			look(count);
		if (now - told > 500) {
			report(argv[0]);
			told = now;
		}
	}
	report(argv[0]);
	return 0;
}
