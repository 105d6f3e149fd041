/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* DHCP (RFC 2131) and DHCPv6 (RFC 8415): clients may ask, only declared servers answer. */
#ifndef BUCKLER_DHCP_H
#define BUCKLER_DHCP_H

#include "peer.h"
#include "parse.h"

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
	if (f->group)
		return REASON_DHCP;
	if (is_infra(f->zone, &f->destination))
		return REASON_INFRA;
	return flags_of(f->zone, &f->destination) & ADDR_DHCP_SERVER ? REASON_DHCP : 0;
}

#endif
