/* SPDX-License-Identifier: Apache-2.0 */
/* `probe pour RESULT KIB_PER_SECOND TARGET`: one TCP connection to an echo server that carries a running transfer;
 * every byte that comes back is compared with the one that went out. */
#include "probe.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE 4096
#define TOLD_MS 200

static int64_t sent, received, wrong, last, gap;

/* The byte at a place of the stream: known at both ends, and no two places near each other look alike. */
static unsigned char byte_at(int64_t place)
{
	uint64_t word = (uint64_t)(place / 8 + 1) * 0x9e3779b97f4a7c15ULL;

	word ^= word >> 29;
	return word >> 8 * (place % 8);
}

static void report(const char *path, const char *state)
{
	char text[200];

	snprintf(text, sizeof(text), "state %s sent %lld received %lld wrong %lld gap_ms %lld\n", state,
		 (long long)sent, (long long)received, (long long)wrong, (long long)gap);
	write_result(path, text);
}

static void pour(int fd)
{
	unsigned char bytes[PIECE];
	ssize_t gone;

	for (int i = 0; i < PIECE; i++)
		bytes[i] = byte_at(sent + i);
	gone = send(fd, bytes, PIECE, MSG_NOSIGNAL);
	if (gone > 0)
		sent += gone;
}

/* Return the state that the connection is in after reading what there is. */
static const char *drain(int fd)
{
	unsigned char bytes[4 * PIECE];
	ssize_t length = recv(fd, bytes, sizeof(bytes), 0);

	if (length == 0)
		return "closed";
	if (length < 0)
		return errno == EAGAIN ? "open" : errno == ECONNRESET ? "reset" : "timeout";
	for (ssize_t i = 0; i < length; i++)
		wrong += bytes[i] != byte_at(received + i);
	received += length;
	if (now_ms() - last > gap)
		gap = now_ms() - last;
	last = now_ms();
	return "open";
}

int run_pour(int argc, char **argv)
{
	struct target target;
	const char *state = "open";
	int64_t began, told = 0, rate;
	int fd;

	if (argc != 3 || !target_parse(argv[2], &target) || target.kind != KIND_TCP)
		return 2;
	rate = atoll(argv[1]) * 1024;
	stop_on_signal();
	fd = target_connect(&target);
	if (fd < 0)
		state = "failed";
	began = last = now_ms();
	while (!stopping && !strcmp(state, "open")) {
		bool is_due = sent < (now_ms() - began) * rate / 1000;
		struct pollfd wait = {.fd = fd, .events = is_due ? POLLIN | POLLOUT : POLLIN};

		if (poll(&wait, 1, 10) > 0) {
			if (wait.revents & (POLLIN | POLLERR | POLLHUP))
				state = drain(fd);
			if (wait.revents & POLLOUT && is_due)
				pour(fd);
		}
		if (now_ms() - told >= TOLD_MS) {
			report(argv[0], state);
			told = now_ms();
		}
	}
	report(argv[0], state);
	return strcmp(state, "open") != 0;
}
