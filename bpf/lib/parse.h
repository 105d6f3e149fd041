/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Reading Ethernet, IPv4, IPv6 with its extension headers, and transport headers into a frame. Judges form, not rights. */
#ifndef BUCKLER_PARSE_H
#define BUCKLER_PARSE_H

#include "frame.h"

#define MAX_EXTENSIONS 8
#define OPTION_LSRR 131
#define OPTION_SSRR 137

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_AUTHENTICATION 51
#define NEXT_DESTINATION 60

#define SCTP_INIT 1
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

STAGE check_ipv4_options(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	__u32 at = 0;
	for (int i = 0; i < 40; i++) {
		__u8 option[2];
		if (at >= length)
			return 0;
		if (bpf_skb_load_bytes(skb, offset + at, option, 1))
			return REASON_MALFORMED;
		if (option[0] == 0)
			return 0;
		if (option[0] == 1) {
			at++;
			continue;
		}
		if (option[0] == OPTION_LSRR || option[0] == OPTION_SSRR)
			return REASON_SOURCE_ROUTE;
		if (at + 2 > length || bpf_skb_load_bytes(skb, offset + at, option, 2) || option[1] < 2 ||
		    at + option[1] > length)
			return REASON_MALFORMED;
		at += option[1];
	}
	return at >= length ? 0 : REASON_MALFORMED;
}

STAGE parse_ipv4(struct __sk_buff *skb, __u32 which, __u32 offset)
{
	struct frame *f = get_frame(which);
	__u8 h[20];
	__u32 header, total, field;
	if (!f || bpf_skb_load_bytes(skb, offset, h, 20))
		return REASON_MALFORMED;
	header = (h[0] & 15) * 4;
	total = h[2] << 8 | h[3];
	if (h[0] >> 4 != 4 || header < 20 || total < header)
		return REASON_MALFORMED;
	if (which == 0 && offset + total > skb->len)
		return REASON_MALFORMED;
	if (header > 20) {
		int bad = check_ipv4_options(skb, offset + 20, header - 20);
		if (bad)
			return bad;
	}
	set_ipv4(&f->source, h + 12);
	set_ipv4(&f->destination, h + 16);
	f->version = 4;
	f->hop_limit = h[8];
	f->protocol = h[9];
	f->l4 = offset + header;
	f->l4_length = total - header;
	field = h[6] << 8 | h[7];
	f->fragment_id = h[4] << 8 | h[5];
	f->fragment_offset = (field & 0x1fff) * 8;
	f->more_fragments = field & 0x2000 ? 1 : 0;
	f->fragment = f->fragment_offset ? FRAGMENT_LATER : f->more_fragments ? FRAGMENT_FIRST : 0;
	return 0;
}

/* What receivers skip on the way to a transport. Anything else is a protocol that a rule must name (mobility, HIP). */
INLINE int is_extension(__u8 next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
	       next == NEXT_AUTHENTICATION || next == NEXT_DESTINATION;
}

STAGE parse_ipv6(struct __sk_buff *skb, __u32 which, __u32 offset)
{
	struct frame *f = get_frame(which);
	__u8 h[40], next;
	__u32 at, end;
	if (!f || bpf_skb_load_bytes(skb, offset, h, 40) || h[0] >> 4 != 6)
		return REASON_MALFORMED;
	end = offset + 40 + (h[4] << 8 | h[5]);
	if (which == 0 && end > skb->len)
		return REASON_MALFORMED;
	__builtin_memcpy(&f->source, h + 8, 16);
	__builtin_memcpy(&f->destination, h + 24, 16);
	if (is_mapped(&f->source) || is_mapped(&f->destination))
		return REASON_MARTIAN; /* it would alias an IPv4 identity */
	f->version = 6;
	f->hop_limit = h[7];
	f->fragment = 0;
	next = h[6];
	at = offset + 40;
	UNROLL /* as a loop, clang lays it out with a back-edge that Linux 6.1 refuses */
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		if (!is_extension(next)) {
			f->protocol = next;
			f->l4 = at;
			if (at > end)
				return REASON_MALFORMED;
			f->l4_length = end - at;
			return 0;
		}
		if (i == MAX_EXTENSIONS || (next == NEXT_HOP_BY_HOP && i))
			return REASON_EXTENSION;
		if (bpf_skb_load_bytes(skb, at, h, 8))
			return REASON_MALFORMED;
		if (next == NEXT_FRAGMENT) {
			__u32 field = h[2] << 8 | h[3];
			if (f->fragment)
				return REASON_FRAGMENT; /* a fragment of a fragment */
			f->fragment_id = h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
			f->fragment_offset = field & 0xfff8;
			f->more_fragments = field & 1;
			f->fragment = f->fragment_offset ? FRAGMENT_LATER : f->more_fragments ? FRAGMENT_FIRST : 0;
			next = h[0];
			at += 8;
			if (f->fragment == FRAGMENT_LATER) {
				f->protocol = next;
				f->l4 = at;
				if (at > end)
					return REASON_MALFORMED;
				f->l4_length = end - at;
				return 0;
			}
			continue;
		}
		if (next == NEXT_ROUTING)
			return REASON_EXTENSION; /* a source route of whichever kind: RFC 5095, RFC 8754 */
		at += next == NEXT_AUTHENTICATION ? (h[1] + 2) * 4 : (h[1] + 1) * 8;
		next = h[0];
	}
	return REASON_EXTENSION;
}

INLINE int parse_tcp(struct __sk_buff *skb, struct frame *f, __u32 which)
{
	__u8 h[20];
	__u32 header;
	if (which) { /* an ICMP error carries 8 bytes for certain */
		if (bpf_skb_load_bytes(skb, f->l4, h, 8))
			return REASON_MALFORMED;
	} else {
		if (f->l4_length < 20)
			return f->fragment ? REASON_FRAGMENT : REASON_MALFORMED;
		if (bpf_skb_load_bytes(skb, f->l4, h, 20))
			return REASON_MALFORMED;
		header = (h[12] >> 4) * 4;
		f->tcp_flags = h[13] & 0x3f;
		if (header < 20)
			return REASON_MALFORMED;
		if (header > f->l4_length)
			return f->fragment ? REASON_FRAGMENT : REASON_MALFORMED;
		if ((f->tcp_flags & (TCP_SYN | TCP_FIN)) == (TCP_SYN | TCP_FIN) ||
		    (f->tcp_flags & (TCP_SYN | TCP_RST)) == (TCP_SYN | TCP_RST) ||
		    !(f->tcp_flags & (TCP_SYN | TCP_RST | TCP_FIN | TCP_ACK)))
			return REASON_MALFORMED;
		f->acknowledgement = (__u32)h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11];
		f->window = h[14] << 8 | h[15];
		f->payload = f->l4_length - header;
	}
	f->sequence = (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7];
	f->source_port = h[0] << 8 | h[1];
	f->destination_port = h[2] << 8 | h[3];
	return 0;
}

INLINE int is_echo(const struct frame *f)
{
	if (f->protocol == PROTO_ICMP)
		return f->icmp_type == 8 || f->icmp_type == 0;
	return f->protocol == PROTO_ICMPV6 && (f->icmp_type == 128 || f->icmp_type == 129);
}

INLINE int is_echo_reply(const struct frame *f)
{
	return f->protocol == PROTO_ICMP ? f->icmp_type == 0 : f->icmp_type == 129;
}

/* Ports, flags and types of a frame whose IP header was read; for a later fragment there is nothing to read. */
STAGE parse_transport(struct __sk_buff *skb, __u32 which)
{
	struct frame *f = get_frame(which);
	__u8 h[8];
	__u32 least;
	if (!f)
		return REASON_MALFORMED;
	f->source_port = f->destination_port = f->policy_port = 0;
	f->tcp_flags = f->icmp_type = f->icmp_code = f->opens = 0;
	if (f->fragment == FRAGMENT_LATER)
		return 0;
	if (f->version == 4 ? f->protocol == PROTO_ICMPV6 : f->protocol == PROTO_ICMP || f->protocol == PROTO_IGMP)
		return REASON_MALFORMED; /* the other family's: nobody means it */
	if (f->protocol == PROTO_TCP) {
		int bad = parse_tcp(skb, f, which);
		f->policy_port = f->destination_port;
		f->opens = (f->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		return bad;
	}
	least = f->protocol == PROTO_SCTP ? 16 : 8; /* RFC 9260, 3: a header and at least one chunk */
	if (f->protocol != PROTO_UDP && f->protocol != PROTO_SCTP && f->protocol != PROTO_ICMP &&
	    f->protocol != PROTO_ICMPV6 && f->protocol != PROTO_IGMP)
		return 0;
	if (!which && f->l4_length < least)
		return f->fragment ? REASON_FRAGMENT : REASON_MALFORMED;
	if (bpf_skb_load_bytes(skb, f->l4, h, 8))
		return REASON_MALFORMED;
	if (f->protocol == PROTO_UDP || f->protocol == PROTO_SCTP) {
		__u32 length = h[4] << 8 | h[5];
		f->source_port = h[0] << 8 | h[1];
		f->destination_port = h[2] << 8 | h[3];
		f->policy_port = f->destination_port;
		if (f->protocol == PROTO_UDP && !which && (length < 8 || (!f->fragment && length > f->l4_length)))
			return REASON_MALFORMED;
		if (f->protocol == PROTO_SCTP && !which) {
			if (bpf_skb_load_bytes(skb, f->l4 + 12, h, 1))
				return REASON_MALFORMED;
			f->opens = h[0] == SCTP_INIT;
		}
		return 0;
	}
	f->icmp_type = h[0];
	f->icmp_code = h[1];
	f->policy_port = h[0] << 8 | h[1];
	if (is_echo(f))
		f->source_port = f->destination_port = h[4] << 8 | h[5];
	return 0;
}

#endif
