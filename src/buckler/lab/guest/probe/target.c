/* SPDX-License-Identifier: Apache-2.0 */
/* Whom to speak to, and what counts as an answer. */
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

void stop_on_signal(void)
{
	struct sigaction action = {.sa_handler = stop};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

void write_result(const char *path, const char *text)
{
	char aside[256];
	FILE *file;

	snprintf(aside, sizeof(aside), "%s.new", path);
	file = fopen(aside, "w");
	if (!file)
		return;
	fputs(text, file);
	fclose(file);
	rename(aside, path);
}

static bool parse_address(const char *text, struct target *target)
{
	struct sockaddr_in6 *six = (void *)&target->address;
	struct sockaddr_in *four = (void *)&target->address;
	char plain[80];
	char *scope;

	snprintf(plain, sizeof(plain), "%s", text);
	scope = strchr(plain, '%');
	if (scope)
		*scope++ = 0;
	if (inet_pton(AF_INET, plain, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		target->length = sizeof(*four);
		return true;
	}
	if (inet_pton(AF_INET6, plain, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_scope_id = scope ? if_nametoindex(scope) : 0;
		target->length = sizeof(*six);
		return true;
	}
	return false;
}

bool target_parse(const char *text, struct target *target)
{
	char kind[8], address[80];
	unsigned int port = 0, from = 0;
	int fields = sscanf(text, "%7[^/]/%79[^/]/%u/%u", kind, address, &port, &from);

	memset(target, 0, sizeof(*target));
	target->text = text;
	if (fields < 2 || !parse_address(address, target))
		return false;
	if (!strcmp(kind, "icmp")) {
		target->kind = KIND_ICMP;
		target->echo_id = fields == 3 ? port : (unsigned int)getpid() & 0xffff;
		return port <= 65535;
	}
	if (fields < 3 || port == 0 || port > 65535)
		return false;
	if (fields == 4) {
		target->kind = KIND_STRAY;
		target->is_syn = !strcmp(kind, "synack");
		target->from_port = from;
		if (from == 0 || from > 65535 || (strcmp(kind, "ack") && !target->is_syn))
			return false;
	} else {
		target->kind = strcmp(kind, "tcp") ? KIND_UDP : KIND_TCP;
		if (target->kind == KIND_UDP && strcmp(kind, "udp"))
			return false;
	}
	/* The port stands at the same place in both families. */
	((struct sockaddr_in *)&target->address)->sin_port = htons(port);
	return true;
}

int target_open(const struct target *target)
{
	int family = target->address.ss_family;
	int type = target->kind == KIND_TCP ? SOCK_STREAM : target->kind == KIND_UDP ? SOCK_DGRAM : SOCK_RAW;
	int protocol = target->kind != KIND_ICMP ? 0 : family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	int fd;

	if (target->kind == KIND_STRAY)
		return stray_open(target);
	fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -1;
	if (connect(fd, (const void *)&target->address, target->length) < 0 && errno != EINPROGRESS) {
		int kept = errno;

		close(fd);
		errno = kept;
		return -1;
	}
	return fd;
}

int target_connect(const struct target *target)
{
	int fd = target_open(target), error = 0, one = 1;
	socklen_t size = sizeof(error);
	struct pollfd wait = {.fd = fd, .events = POLLOUT};

	if (fd < 0 || target->kind != KIND_TCP)
		return fd;
	poll(&wait, 1, 5000);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error || !wait.revents) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static uint16_t checksum(const void *data, size_t length)
{
	const uint16_t *word = data;
	uint32_t sum = 0;

	for (; length > 1; length -= 2)
		sum += *word++;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

void target_send(const struct target *target, int fd, uint16_t sequence)
{
	/* The echo headers of ICMP and ICMPv6 have one layout; the kernel fills in the checksum of ICMPv6. */
	struct icmphdr echo = {.type = ICMP_ECHO};
	ssize_t sent;

	if (target->kind == KIND_STRAY) {
		stray_send(target, fd);
		return;
	}
	if (target->kind == KIND_UDP) {
		sent = send(fd, "probe\n", 6, MSG_NOSIGNAL);
	} else {
		echo.un.echo.id = htons(target->echo_id);
		echo.un.echo.sequence = htons(sequence);
		if (target->address.ss_family == AF_INET)
			echo.checksum = checksum(&echo, sizeof(echo));
		else
			echo.type = ICMP6_ECHO_REQUEST;
		sent = send(fd, &echo, sizeof(echo), MSG_NOSIGNAL);
	}
	(void)sent; /* a refusal shows as a missing answer */
}

bool target_answered(const struct target *target, int fd)
{
	unsigned char packet[2048];
	struct icmphdr echo;
	size_t skip = 0;
	ssize_t length;

	if (target->kind == KIND_STRAY)
		return stray_answered(target, fd);
	length = recv(fd, packet, sizeof(packet), 0);
	if (length <= 0)
		return false;
	if (target->kind == KIND_UDP)
		return true;
	if (target->address.ss_family == AF_INET)
		skip = (packet[0] & 15) * 4;
	if (length < (ssize_t)(skip + sizeof(echo)))
		return false;
	memcpy(&echo, packet + skip, sizeof(echo));
	return echo.type == (target->address.ss_family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY) &&
	       echo.un.echo.id == htons(target->echo_id);
}
