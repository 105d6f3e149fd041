/* SPDX-License-Identifier: Apache-2.0 */
/* A worm for the lab: `probe worm LIFE_MS GAP_MS PREFIX FIRST LAST PORT…` tries every address of PREFIX (10.0.0.) from
 * FIRST to LAST at each port and hands itself on to every server of the lab that answers, which then does the same.
 *
 * It lives for LIFE_MS at most, its offspring only for what is left of that, and enters only where a person has put the
 * file /tmp/susceptible. It does nothing else than spread. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_LIFE_MS 60000
#define MOST_OPEN 64
#define MOST_PORTS 8
#define PATIENCE_MS 400
#define MARK "WORM "

struct worm {
	int life, gap, first, last, ports[MOST_PORTS], count;
	char prefix[24];
};

static struct {
	int fd;
	int64_t since;
} tries[MOST_OPEN];
static int attempts, passed;

static void tell(int64_t end)
{
	char text[96];

	snprintf(text, sizeof(text), "attempts %d passed %d left %lld\n", attempts, passed,
		 (long long)(end - now_ms()));
	write_result("/tmp/worm", text);
}

static void hand_on(const struct worm *worm, int fd, int64_t end)
{
	char text[256];
	int length = snprintf(text, sizeof(text), MARK "%d %d %s %d %d", (int)(end - now_ms()), worm->gap, worm->prefix,
			      worm->first, worm->last);

	for (int i = 0; i < worm->count; i++)
		length += snprintf(text + length, sizeof(text) - length, " %d", worm->ports[i]);
	text[length++] = '\n';
	if (send(fd, text, length, MSG_NOSIGNAL) == length)
		passed++;
}

/* Look at what was tried: who answered gets the worm, who is silent for too long is left. */
static void look(const struct worm *worm, int64_t end)
{
	for (int i = 0; i < MOST_OPEN; i++) {
		struct pollfd one = {.fd = tries[i].fd, .events = POLLOUT};
		int error = 0;
		socklen_t size = sizeof(error);

		if (tries[i].fd < 0)
			continue;
		if (poll(&one, 1, 0) == 1) {
			getsockopt(tries[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
			if (!error)
				hand_on(worm, tries[i].fd, end);
		} else if (now_ms() - tries[i].since < PATIENCE_MS) {
			continue;
		}
		close(tries[i].fd);
		tries[i].fd = -1;
	}
}

static void attempt(const struct worm *worm, int host, int port, int64_t end)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	char text[40];
	int at = 0;

	snprintf(text, sizeof(text), "%s%d", worm->prefix, host);
	if (inet_pton(AF_INET, text, &to.sin_addr) != 1)
		return;
	look(worm, end);
	while (at < MOST_OPEN && tries[at].fd >= 0)
		at++;
	if (at == MOST_OPEN)
		return;
	tries[at].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	tries[at].since = now_ms();
	attempts++;
	if (tries[at].fd >= 0 && connect(tries[at].fd, (void *)&to, sizeof(to)) && errno != EINPROGRESS) {
		close(tries[at].fd);
		tries[at].fd = -1;
	}
}

static int live(const struct worm *worm)
{
	int64_t end = now_ms() + worm->life;

	for (int i = 0; i < MOST_OPEN; i++)
		tries[i].fd = -1;
	while (now_ms() < end)
		for (int i = 0; i < worm->count && now_ms() < end; i++)
			for (int host = worm->first; host <= worm->last && now_ms() < end; host++) {
				attempt(worm, host, worm->ports[i], end);
				usleep(worm->gap * 1000);
				if (host == worm->last || host % 16 == 0)
					tell(end);
			}
	tell(end);
	return 0;
}

static bool is_bounded(const struct worm *worm)
{
	return worm->life > 0 && worm->life <= MOST_LIFE_MS && worm->gap > 0 && worm->first > 0 && worm->last < 255 &&
	       worm->first <= worm->last && worm->count > 0;
}

static bool read_worm(struct worm *worm, int argc, char **argv)
{
	if (argc < 6 || argc - 5 > MOST_PORTS)
		return false;
	worm->life = atoi(argv[0]);
	worm->gap = atoi(argv[1]);
	snprintf(worm->prefix, sizeof(worm->prefix), "%s", argv[2]);
	worm->first = atoi(argv[3]);
	worm->last = atoi(argv[4]);
	for (worm->count = 0; worm->count < argc - 5; worm->count++)
		worm->ports[worm->count] = atoi(argv[5 + worm->count]);
	return is_bounded(worm);
}

int run_worm(int argc, char **argv)
{
	struct worm worm;

	return read_worm(&worm, argc, argv) ? live(&worm) : 2;
}

void worm_enters(char *text)
{
	char *words[5 + MOST_PORTS];
	struct worm worm;
	int count = 0, mark;

	if (strncmp(text, MARK, strlen(MARK)) || access("/tmp/susceptible", F_OK))
		return;
	for (char *word = strtok(text + strlen(MARK), " \n"); word && count < 5 + MOST_PORTS;
	     word = strtok(NULL, " \n"))
		words[count++] = word;
	if (!read_worm(&worm, count, words))
		return;
	mark = open("/tmp/infected", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (mark < 0)
		return;
	close(mark);
	if (fork() == 0) {
		setsid();
		_exit(live(&worm));
	}
}
