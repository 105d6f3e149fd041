/* SPDX-License-Identifier: Apache-2.0 */
/* `probe keep RESULT INTERVAL_MS TARGET…`: many flows that are opened once and never again, each speaking every
 * interval. INTERVAL 0: each speaks once, then stays silent until SIGUSR1 asks it to speak once more. SIGUSR1 also
 * forgets the longest gap. What comes back must be what was sent, in order where the protocol keeps order. One line a
 * flow:
 *
 *   NUMBER:TARGET STATE,SENT,ANSWERED,WRONG,LONGEST_GAP_MS      STATE: open, failed, reset, closed, timeout
 *
 * An ICMP error that answers a datagram counts as its answer: that is a related packet. */
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 32
#define MESSAGE 16
#define TOLD_MS 200

struct flow {
	struct target target;
	const char *state;
	long sent, bytes, answered, wrong;
	int64_t asked, gap; /* since when an answer is due (0: none is), the longest wait for one */
};

static struct flow flows[MOST];
static struct pollfd sockets[MOST];
static volatile sig_atomic_t asked_again;

static void ask_again(int signal)
{
	(void)signal;
	asked_again = 1;
}

static void write_message(char *message, long number)
{
	snprintf(message, MESSAGE + 1, "keep %010u\n", (unsigned int)number);
}

static void end(int at, const char *state)
{
	flows[at].state = state;
	close(sockets[at].fd);
	sockets[at].fd = -1;
}

static void end_by_error(int at, int error)
{
	end(at, error == ECONNRESET ? "reset" : error == ETIMEDOUT ? "timeout" : error ? "failed" : "closed");
}

static void speak(int at)
{
	struct flow *flow = &flows[at];
	char message[MESSAGE + 1];

	if (sockets[at].fd < 0)
		return;
	if (!flow->asked)
		flow->asked = now_ms();
	write_message(message, flow->sent);
	if (flow->target.kind == KIND_ICMP)
		target_send(&flow->target, sockets[at].fd, flow->sent & 0xffff);
	else if (send(sockets[at].fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
		return; /* a full buffer: the stream must stay whole; an error shows when we listen */
	flow->sent++;
}

static void count_answer(struct flow *flow)
{
	int64_t waited = flow->asked ? now_ms() - flow->asked : 0;

	if (waited > flow->gap)
		flow->gap = waited;
	flow->answered++;
	flow->asked = flow->answered < flow->sent && flow->target.kind == KIND_TCP ? now_ms() : 0;
}

static void check_stream(struct flow *flow, const char *bytes, ssize_t length)
{
	char message[MESSAGE + 1];

	for (ssize_t i = 0; i < length; i++, flow->bytes++) {
		write_message(message, flow->bytes / MESSAGE);
		if (flow->bytes / MESSAGE >= flow->sent || bytes[i] != message[flow->bytes % MESSAGE])
			flow->wrong++;
		if (flow->bytes % MESSAGE == MESSAGE - 1)
			count_answer(flow);
	}
}

static void check_datagram(struct flow *flow, const char *bytes, ssize_t length)
{
	char message[MESSAGE + 1];
	long number;

	if (length == MESSAGE && sscanf(bytes, "keep %ld", &number) == 1 && number >= 0 && number < flow->sent) {
		write_message(message, number);
		flow->wrong += memcmp(message, bytes, MESSAGE) != 0;
	} else {
		flow->wrong++;
	}
	count_answer(flow);
}

static void listen_to(int at)
{
	struct flow *flow = &flows[at];
	char bytes[4096] = "";
	ssize_t length;

	if (flow->target.kind == KIND_ICMP) {
		if (target_answered(&flow->target, sockets[at].fd))
			count_answer(flow);
		return;
	}
	length = recv(sockets[at].fd, bytes, sizeof(bytes) - 1, 0);
	if (length > 0 && flow->target.kind == KIND_TCP)
		check_stream(flow, bytes, length);
	else if (length > 0)
		check_datagram(flow, bytes, length);
	else if (length < 0 && errno == ECONNREFUSED && flow->target.kind == KIND_UDP)
		count_answer(flow);
	else if (flow->target.kind == KIND_TCP && (length == 0 || errno != EAGAIN))
		end_by_error(at, length ? errno : 0);
}

static void report(const char *path, int count)
{
	char text[MOST * 160] = "";

	for (int i = 0; i < count; i++) {
		struct flow *flow = &flows[i];
		int64_t waiting = flow->asked ? now_ms() - flow->asked : 0;

		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%d:%s %s,%ld,%ld,%ld,%lld\n", i,
			 flow->target.text, flow->state, flow->sent, flow->answered, flow->wrong,
			 (long long)(waiting > flow->gap ? waiting : flow->gap));
	}
	write_result(path, text);
}

static void speak_all(int count)
{
	for (int i = 0; i < count; i++)
		speak(i);
}

int run_keep(int argc, char **argv)
{
	int count = argc - 2, interval = argc > 1 ? atoi(argv[1]) : 0;
	int64_t due, told = 0;

	if (count < 1 || count > MOST)
		return 2;
	stop_on_signal();
	signal(SIGUSR1, ask_again);
	for (int i = 0; i < count; i++) {
		if (!target_parse(argv[i + 2], &flows[i].target) || flows[i].target.kind == KIND_STRAY)
			return 2;
		sockets[i] = (struct pollfd){.fd = target_connect(&flows[i].target), .events = POLLIN};
		flows[i].state = sockets[i].fd < 0 ? "failed" : "open";
	}
	due = now_ms();
	while (!stopping) {
		int64_t wait;

		if (asked_again) {
			asked_again = 0;
			for (int i = 0; i < count; i++)
				flows[i].gap = 0;
			due = interval ? due : now_ms();
		}
		if (now_ms() >= due) {
			speak_all(count);
			due = interval ? now_ms() + interval : INT64_MAX;
		}
		wait = due - now_ms();
		wait = wait < 0 ? 0 : wait > TOLD_MS ? TOLD_MS : wait;
		if (poll(sockets, count, wait) > 0)
			for (int i = 0; i < count; i++)
				if (sockets[i].fd >= 0 && sockets[i].revents)
					listen_to(i);
		if (now_ms() - told >= TOLD_MS) {
			report(argv[0], count);
			told = now_ms();
		}
	}
	report(argv[0], count);
	return 0;
}
