/* SPDX-License-Identifier: Apache-2.0 */
/* `probe watch RESULT SECONDS ADDRESS…`: count the IP packets that really arrive from each address, below the
 * network stack; of a MAC address every frame. Neighbour discovery is not counted: it is how two stations learn that
 * they may not speak. */
#include "probe.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 32

static unsigned char sources[MOST][16];
static int sizes[MOST];
static long counts[MOST];

static bool is_neighbour_discovery(const unsigned char *packet, ssize_t length)
{
	return length > 40 && packet[6] == IPPROTO_ICMPV6 && packet[40] >= 133 && packet[40] <= 137;
}

static bool parse_mac(const char *text, unsigned char *mac)
{
	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%*c", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
		      &mac[5]) == 6 &&
	       strlen(text) == 17;
}

static void count_frame(const unsigned char *mac, int count)
{
	for (int i = 0; i < count; i++)
		if (sizes[i] == 6 && !memcmp(sources[i], mac, 6))
			counts[i]++;
}

static void count_packet(const unsigned char *packet, ssize_t length, int count)
{
	bool six = length >= 40 && packet[0] >> 4 == 6;
	const unsigned char *source = packet + (six ? 8 : 12);

	if (length < 20 || (six && is_neighbour_discovery(packet, length)))
		return;
	for (int i = 0; i < count; i++)
		if (sizes[i] == (six ? 16 : 4) && !memcmp(sources[i], source, sizes[i]))
			counts[i]++;
}

static void report(const char *path, char **names, int count)
{
	char text[MOST * 64] = "";

	for (int i = 0; i < count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s %ld\n", names[i], counts[i]);
	write_result(path, text);
}

int run_watch(int argc, char **argv)
{
	int count = argc - 2, fd;
	int64_t end, told = 0;

	if (count < 1 || count > MOST)
		return 2;
	for (int i = 0; i < count; i++) {
		if (parse_mac(argv[i + 2], sources[i]))
			sizes[i] = 6;
		else if (inet_pton(AF_INET, argv[i + 2], sources[i]) == 1)
			sizes[i] = 4;
		else if (inet_pton(AF_INET6, argv[i + 2], sources[i]) == 1)
			sizes[i] = 16;
		else
			return 2;
	}
	fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
	if (fd < 0)
		return 1;
	stop_on_signal();
	end = atoi(argv[1]) ? now_ms() + atoi(argv[1]) * 1000LL : INT64_MAX;
	while (!stopping && now_ms() < end) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		struct sockaddr_ll from;
		socklen_t size = sizeof(from);
		unsigned char packet[2048];
		ssize_t length;

		if (poll(&wait, 1, 100) > 0) {
			length = recvfrom(fd, packet, sizeof(packet), 0, (void *)&from, &size);
			if (length <= 0 || from.sll_pkttype == PACKET_OUTGOING)
				continue;
			count_frame(from.sll_addr, count);
			if (from.sll_protocol == htons(ETH_P_IP) || from.sll_protocol == htons(ETH_P_IPV6))
				count_packet(packet, length, count);
		}
		if (now_ms() - told > 300) {
			report(argv[0], argv + 2, count);
			told = now_ms();
		}
	}
	report(argv[0], argv + 2, count);
	return 0;
}
