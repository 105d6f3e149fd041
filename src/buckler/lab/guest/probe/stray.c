/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of connections that never were: a segment in mid-stream ("ack/ADDRESS/PORT/FROM-PORT") or an answer to a SYN
 * that nobody sent ("synack/…"). Ports from 61000 on belong to them alone: no socket of a guest ever gets one. */
#include "probe.h"

#include <arpa/inet.h>
#include <linux/in6.h>
#include <netinet/tcp.h>
#include <string.h>

#define DATA "stray\n"
#define IPV6_CHECKSUM_OPTION 7 /* IPV6_CHECKSUM of RFC 3542: the kernel fills in the checksum at this offset */

struct segment {
	struct tcphdr header;
	char data[sizeof(DATA)];
};

static uint32_t add_up(const void *data, size_t length, uint32_t sum)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < length; i++)
		sum += i % 2 ? bytes[i] : bytes[i] << 8;
	return sum;
}

static uint16_t checksum_v4(const struct segment *segment, const struct sockaddr_in *from, const struct sockaddr_in *to)
{
	uint32_t sum = add_up(segment, sizeof(*segment), IPPROTO_TCP + sizeof(*segment));

	sum = add_up(&from->sin_addr, 4, sum);
	sum = add_up(&to->sin_addr, 4, sum);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum);
}

int stray_open(const struct target *target)
{
	int family = target->address.ss_family, offset = 16;
	int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	struct sockaddr_storage to = target->address;

	((struct sockaddr_in *)&to)->sin_port = 0; /* a raw socket of IPv6 takes no port */
	if (fd >= 0 && connect(fd, (void *)&to, target->length))
		return -1;
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_CHECKSUM_OPTION, &offset, sizeof(offset));
	return fd;
}

void stray_send(const struct target *target, int fd)
{
	struct segment segment = {.header = {.doff = sizeof(struct tcphdr) / 4, .ack = 1, .window = htons(8192)},
				  .data = DATA};
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	ssize_t sent;

	segment.header.source = htons(target->from_port);
	segment.header.dest = ((const struct sockaddr_in *)&target->address)->sin_port;
	segment.header.seq = htonl(0x10000000);
	segment.header.ack_seq = htonl(0x20000000);
	segment.header.syn = target->is_syn;
	segment.header.psh = !target->is_syn;
	if (target->address.ss_family == AF_INET) {
		getsockname(fd, (void *)&from, &size);
		segment.header.check = checksum_v4(&segment, &from, (const void *)&target->address);
	}
	sent = send(fd, &segment, sizeof(segment), MSG_NOSIGNAL);
	(void)sent;
}

/* A RST from the other end, as one that got the segment sends it; the raw socket shows us all other TCP too. */
bool stray_answered(const struct target *target, int fd)
{
	unsigned char packet[2048];
	ssize_t length = recv(fd, packet, sizeof(packet), 0);
	size_t skip = target->address.ss_family == AF_INET ? (packet[0] & 15) * 4 : 0;
	struct tcphdr header;

	if (length < (ssize_t)(skip + sizeof(header)))
		return false;
	memcpy(&header, packet + skip, sizeof(header));
	return header.dest == htons(target->from_port) &&
	       header.source == ((const struct sockaddr_in *)&target->address)->sin_port;
}
