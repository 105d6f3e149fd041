/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* DHCP (RFC 2131) and DHCPv6 (RFC 8415): clients may ask, only declared servers answer. */
#ifndef BUCKLER_DHCP_H
#define BUCKLER_DHCP_H

#include "peer.h"
#include "parse.h"

#define BOOTP_CLIENT 34 /* op, htype, hlen, hops, …, giaddr at 24, chaddr at 28 */
#define BOOTP_COOKIE 236

INLINE int is_to_dhcp_server(const struct frame *f)
{
	if (f->protocol != PROTO_UDP || f->fragment)
		return 0;
	return f->version == 4 ? f->source_port == 68 && f->destination_port == 67
			       : f->source_port == 546 && f->destination_port == 547;
}

INLINE int is_from_dhcp_server(const struct frame *f)
{
	if (f->protocol != PROTO_UDP)
		return 0;
	return f->version == 4 ? f->destination_port == 68 : f->destination_port == 546;
}

/* An answer of a declared server before the VM has its address (RFC 2131, 4.1): unicast to what it is about to get. */
INLINE int is_offer(const struct frame *f)
{
	return f->version == 4 && is_from_dhcp_server(f) && f->source_port == 67 && !f->fragment &&
	       (flags_of(f->zone, &f->source) & ADDR_DHCP_SERVER);
}

/* A request for this very VM: no other's hardware address (starvation), no relay, to where clients ask. Returns not 0: no. */
STAGE check_dhcp_request(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct endpoint *endpoint;
	struct address agents = {{0xff, 2, [13] = 1, [15] = 2}}; /* ff02::1:2 */
	__u8 h[BOOTP_CLIENT];
	__u32 cookie, group;
	if (!f || has_trailer(skb, f->l4 + f->l4_length))
		return 1;
	__builtin_memcpy(&group, f->destination.bytes + 12, 4);
	if (f->version == 6)
		return f->group && !same_address(&f->destination, &agents);
	if (f->group && group != 0xffffffff)
		return 1;
	endpoint = get_endpoint(f->index);
	if (!endpoint || bpf_skb_load_bytes(skb, f->l4 + 8, h, sizeof(h)) ||
	    bpf_skb_load_bytes(skb, f->l4 + 8 + BOOTP_COOKIE, &cookie, 4))
		return 1;
	if (h[0] != 1 || h[1] != 1 || h[2] != 6 || h[3] || (h[24] | h[25] | h[26] | h[27]))
		return 1;
	return !same_mac(h + 28, endpoint->mac) || cookie != bpf_htonl(0x63825363);
}

/* Returns a reason, or 0: not DHCP's business, go on to policy. */
STAGE judge_dhcp(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	KEEP(skb);
	if (!f)
		return REASON_MALFORMED;
	if (is_from_dhcp_server(f)) {
		if (is_infra(f->zone, &f->source) || is_infra(f->zone, &f->destination))
			return REASON_INFRA;
		if (f->fragment || !(flags_of(f->zone, &f->source) & ADDR_DHCP_SERVER))
			return REASON_ROGUE_DHCP;
		return REASON_DHCP;
	}
	if (direction != DIR_EGRESS || !is_to_dhcp_server(f))
		return 0;
	if (is_infra(f->zone, &f->destination))
		return REASON_INFRA;
	if (!f->group && !(flags_of(f->zone, &f->destination) & ADDR_DHCP_SERVER))
		return 0;
	return check_dhcp_request(skb) ? REASON_ROGUE_DHCP : REASON_DHCP;
}

#endif
