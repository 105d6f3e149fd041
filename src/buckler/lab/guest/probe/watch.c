/* SPDX-License-Identifier: Apache-2.0 */
/* `probe watch RESULT SECONDS WHAT…`: count what really arrives, below the network stack. WHAT is an address (every IP
 * packet from it), a MAC address (every frame from it), "tcp/ADDRESS/PORT" or "udp/ADDRESS/PORT" (from the address to
 * our port), "icmp/ADDRESS" (its echo requests) or "ack/ADDRESS/PORT/FROM-PORT" (see stray.c). Neighbour discovery is
 * not counted: it is how two stations learn that they may not speak. */
#include "probe.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 256

static unsigned char sources[MOST][16];
static int sizes[MOST];
static struct target services[MOST]; /* without text: whatever comes from the address */
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

static bool parse_address(const char *text, int at)
{
	if (inet_pton(AF_INET, text, sources[at]) == 1)
		sizes[at] = 4;
	else if (inet_pton(AF_INET6, text, sources[at]) == 1)
		sizes[at] = 16;
	return sizes[at] != 0;
}

static bool parse_service(const char *text, int at)
{
	const struct sockaddr_in6 *six = (void *)&services[at].address;
	const struct sockaddr_in *four = (void *)&services[at].address;

	if (!target_parse(text, &services[at]))
		return false;
	sizes[at] = six->sin6_family == AF_INET6 ? 16 : 4;
	memcpy(sources[at], sizes[at] == 16 ? (void *)&six->sin6_addr : (void *)&four->sin_addr, sizes[at]);
	return true;
}

static uint16_t port_of(const struct target *target)
{
	return ((const struct sockaddr_in *)&target->address)->sin_port;
}

/* Whether a packet asks what the target names. A header that stands behind extension headers counts as none of ours. */
static bool is_request(const struct target *target, const unsigned char *packet, ssize_t length)
{
	static const int protocols[] = {
	    [KIND_TCP] = IPPROTO_TCP, [KIND_UDP] = IPPROTO_UDP, [KIND_ICMP] = IPPROTO_ICMP, [KIND_STRAY] = IPPROTO_TCP};
	bool six = packet[0] >> 4 == 6;
	size_t header = six ? 40 : (packet[0] & 15) * 4;
	int protocol = six && target->kind == KIND_ICMP ? IPPROTO_ICMPV6 : protocols[target->kind];
	uint16_t from, port;

	if (packet[six ? 6 : 9] != protocol || length < (ssize_t)header + 8)
		return false;
	if (target->kind == KIND_ICMP)
		return packet[header] == (six ? ICMP6_ECHO_REQUEST : ICMP_ECHO);
	memcpy(&from, packet + header, sizeof(from));
	memcpy(&port, packet + header + 2, sizeof(port));
	return port == port_of(target) && (target->kind != KIND_STRAY || from == htons(target->from_port));
}

static void count_packet(const unsigned char *packet, ssize_t length, int count)
{
	bool six = length >= 40 && packet[0] >> 4 == 6;
	const unsigned char *source = packet + (six ? 8 : 12);

	if (length < 20 || (six && is_neighbour_discovery(packet, length)))
		return;
	for (int i = 0; i < count; i++)
		if (sizes[i] == (six ? 16 : 4) && !memcmp(sources[i], source, sizes[i]) &&
		    (!services[i].text || is_request(&services[i], packet, length)))
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
	int count = argc - 2, fd, room = 2 << 20; /* a slow machine looks at a burst of frames late, and at all of it */
	int64_t end, told = 0;

	if (count < 1 || count > MOST)
		return 2;
	for (int i = 0; i < count; i++) {
		if (parse_mac(argv[i + 2], sources[i]))
			sizes[i] = 6;
		else if (!parse_address(argv[i + 2], i) && !parse_service(argv[i + 2], i))
			return 2;
	}
	fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
	if (fd < 0)
		return 1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
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
