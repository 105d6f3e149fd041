/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reading the common packet straight from memory: TCP or UDP, IP header of the usual length, whole, headers in one piece.
 * Owns no refusal: whatever is not plain is read and judged by parse.h, which asks the same of it and more. */
#ifndef BUCKLER_PLAIN_H
#define BUCKLER_PLAIN_H

#include "parse.h"

#define L4_IPV4 (ETH_LENGTH + 20)
#define L4_IPV6 (ETH_LENGTH + 40)

/* In a packet a word may begin anywhere; clang does not know that and would go byte by byte. */
INLINE __u16 read16(const __u8 *at)
{
	return bpf_ntohs(*(const __u16 *)at);
}

INLINE void read_ipv4(struct address *to, const __u8 *at)
{
	__u32 *words = (__u32 *)to->bytes;
	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = *(const __u32 *)at;
}

INLINE void read_ipv6(struct address *to, const __u8 *at)
{
	__u32 *words = (__u32 *)to->bytes;
	for (int i = 0; i < 4; i++)
		words[i] = ((const __u32 *)at)[i];
}

/* DHCP is never plain: its answers pass and fall by other rules than its connection's. */
INLINE int is_dhcp_port(__u16 port)
{
	return port == 67 || port == 68 || port == 546 || port == 547;
}

INLINE int read_plain_udp(struct frame *f, const __u8 *h)
{
	__u32 length = read16(h + 4);
	return f->l4_length >= 8 && length >= 8 && length <= f->l4_length && !is_dhcp_port(f->source_port) &&
	       !is_dhcp_port(f->destination_port);
}

INLINE int read_plain_tcp(struct frame *f, const __u8 *h)
{
	__u32 header = (h[12] >> 4) * 4;
	__u8 flags = h[13] & 0x3f;
	if (header < 20 || header > f->l4_length || !(flags & (TCP_SYN | TCP_RST | TCP_FIN | TCP_ACK)) ||
	    ((flags & TCP_SYN) && (flags & (TCP_FIN | TCP_RST))))
		return 0;
	f->tcp_flags = flags;
	f->opens = (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	f->sequence = bpf_ntohl(*(const __u32 *)(h + 4));
	f->acknowledgement = bpf_ntohl(*(const __u32 *)(h + 8));
	f->window = read16(h + 14);
	f->payload = f->l4_length - header;
	return 1;
}

INLINE int read_plain_transport(struct frame *f, const __u8 *h, const __u8 *end)
{
	if (h + 8 > end)
		return 0;
	f->source_port = read16(h);
	f->destination_port = f->policy_port = read16(h + 2);
	if (f->protocol == PROTO_UDP)
		return read_plain_udp(f, h);
	return f->protocol == PROTO_TCP && h + 20 <= end && read_plain_tcp(f, h);
}

INLINE int read_plain_ipv4(struct frame *f, const __u8 *frame, const __u8 *end, __u32 length)
{
	const __u8 *h = frame + ETH_LENGTH;
	__u32 total;
	if (frame + L4_IPV4 > end)
		return 0;
	total = read16(h + 2);
	if (h[0] != 0x45 || (read16(h + 6) & 0x3fff) || total < 20 || ETH_LENGTH + total > length)
		return 0;
	read_ipv4(&f->source, h + 12);
	read_ipv4(&f->destination, h + 16);
	f->version = 4;
	f->hop_limit = h[8];
	f->protocol = h[9];
	f->fragment_id = read16(h + 4);
	f->l4 = L4_IPV4;
	f->l4_length = total - 20;
	return read_plain_transport(f, frame + L4_IPV4, end);
}

INLINE int read_plain_ipv6(struct frame *f, const __u8 *frame, const __u8 *end, __u32 length)
{
	const __u8 *h = frame + ETH_LENGTH;
	if (frame + L4_IPV6 > end)
		return 0;
	f->l4_length = read16(h + 4);
	if (h[0] >> 4 != 6 || L4_IPV6 + f->l4_length > length)
		return 0;
	read_ipv6(&f->source, h + 8);
	read_ipv6(&f->destination, h + 24);
	f->version = 6;
	f->hop_limit = h[7];
	f->protocol = h[6];
	f->l4 = L4_IPV6;
	if (is_mapped(&f->source) || is_mapped(&f->destination))
		return 0;
	return read_plain_transport(f, frame + L4_IPV6, end);
}

/* Fill the frame and return 1 if it is plain. What was filled in of one that is not, parse.h writes again. */
INLINE int read_plain(struct __sk_buff *skb, struct frame *f)
{
	const __u8 *frame = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (f->destination_mac[0] & 1)
		return 0;
	if (f->ethertype == ETHERTYPE_IPV4)
		return read_plain_ipv4(f, frame, end, skb->len);
	return f->ethertype == ETHERTYPE_IPV6 && read_plain_ipv6(f, frame, end, skb->len);
}

#endif
