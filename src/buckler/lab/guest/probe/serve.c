/* SPDX-License-Identifier: Apache-2.0 */
/* `probe serve NAME UPSTREAM|- tcp/PORT|udp/PORT…`: HTTP answers that pass through the tiers, and echo for the rest. */
#include "probe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define MOST 32

static const char *name, *upstream;

static int listen_at(const char *spec)
{
	struct sockaddr_in6 any = {.sin6_family = AF_INET6};
	bool tcp = !strncmp(spec, "tcp/", 4);
	int one = 1, no = 0, fd = socket(AF_INET6, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);

	any.sin6_port = htons(atoi(spec + 4));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	if (bind(fd, (void *)&any, sizeof(any)) || (tcp && listen(fd, 128))) {
		perror(spec);
		exit(1);
	}
	return fd;
}

/* What the web server at `from` says; false when it says nothing in time. */
static bool fetch(const char *from, char *answer, size_t size)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	struct target target;
	struct pollfd wait;
	char bytes[2048], *body;
	ssize_t length = 0, more;
	int fd;

	fd = target_parse(from, &target) ? target_open(&target) : -1;
	wait = (struct pollfd){.fd = fd, .events = POLLOUT};
	if (fd < 0 || poll(&wait, 1, 2500) != 1 || send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
		return false;
	wait.events = POLLIN;
	while (poll(&wait, 1, 2500) == 1) {
		more = recv(fd, bytes + length, sizeof(bytes) - 1 - length, 0);
		if (more <= 0)
			break;
		length += more;
	}
	bytes[length] = 0;
	body = strstr(bytes, "\r\n\r\n");
	if (body)
		snprintf(answer, size, "%.*s", (int)strcspn(body + 4, "\n"), body + 4);
	close(fd);
	return body != NULL;
}

int run_get(int argc, char **argv)
{
	char answer[1024];

	if (argc != 1)
		return 2;
	if (!fetch(argv[0], answer, sizeof(answer)))
		return 1;
	puts(answer);
	return 0;
}

static void converse(int fd)
{
	char bytes[2048], body[1024], next[512];
	struct timeval patience = {.tv_sec = 86400};
	ssize_t length;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while ((length = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
		if (length < 4 || memcmp(bytes, "GET ", 4)) {
			if (send(fd, bytes, length, MSG_NOSIGNAL) < 0)
				return;
			bytes[length < (ssize_t)sizeof(bytes) ? length : (ssize_t)sizeof(bytes) - 1] = 0;
			worm_enters(bytes);
			continue;
		}
		if (upstream) {
			if (!fetch(upstream, next, sizeof(next)))
				snprintf(next, sizeof(next), "(no answer from %s)", upstream);
			snprintf(body, sizeof(body), "hello from %s < %s\n", name, next);
		} else {
			snprintf(body, sizeof(body), "hello from %s\n", name);
		}
		dprintf(fd, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", strlen(body),
			body);
		return;
	}
}

static void accept_one(int fd)
{
	int client = accept(fd, NULL, NULL);

	if (client < 0)
		return;
	if (fork() == 0) {
		close(fd);
		converse(client);
		_exit(0);
	}
	close(client);
}

static void echo_one(int fd)
{
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	char bytes[2048];
	ssize_t length = recvfrom(fd, bytes, sizeof(bytes), 0, (void *)&from, &size);

	if (length >= 0)
		sendto(fd, bytes, length, MSG_NOSIGNAL, (void *)&from, size);
}

int run_serve(int argc, char **argv)
{
	struct pollfd sockets[MOST];
	int count = argc - 2;

	if (count < 1 || count > MOST)
		return 2;
	name = argv[0];
	upstream = strcmp(argv[1], "-") ? argv[1] : NULL;
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < count; i++)
		sockets[i] = (struct pollfd){.fd = listen_at(argv[i + 2]), .events = POLLIN};
	for (;;) {
		if (poll(sockets, count, -1) <= 0)
			continue;
		for (int i = 0; i < count; i++) {
			if (!(sockets[i].revents & POLLIN))
				continue;
			if (argv[i + 2][0] == 't')
				accept_one(sockets[i].fd);
			else
				echo_one(sockets[i].fd);
		}
	}
}
