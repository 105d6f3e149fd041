/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IGMP and MLD: VMs report, routers and bridges query. Membership opens nothing: group traffic still needs a rule. */
#ifndef BUCKLER_MEMBERSHIP_H
#define BUCKLER_MEMBERSHIP_H

#include "frame.h"

INLINE int is_mld(const struct frame *f)
{
	return f->protocol == PROTO_ICMPV6 && ((f->icmp_type >= 130 && f->icmp_type <= 132) || f->icmp_type == 143);
}

INLINE int is_membership(const struct frame *f)
{
	return f->protocol == PROTO_IGMP || is_mld(f);
}

INLINE int is_query(const struct frame *f)
{
	return f->protocol == PROTO_IGMP ? f->icmp_type == 0x11 : f->icmp_type == 130;
}

INLINE int is_known_report(const struct frame *f)
{
	if (f->protocol != PROTO_IGMP)
		return 1;
	return f->icmp_type == 0x12 || f->icmp_type == 0x16 || f->icmp_type == 0x17 || f->icmp_type == 0x22;
}

/* The source is checked to be one's own before; RFC 2710, 3 and RFC 3810, 5: link-local source, hop limit 1. */
INLINE int judge_membership(const struct frame *f, __u32 direction)
{
	if (f->fragment || f->hop_limit != 1 || !f->group)
		return REASON_ROGUE_MEMBERSHIP;
	if (f->version == 6 && !is_link_local(&f->source))
		return REASON_ROGUE_MEMBERSHIP;
	if (is_query(f))
		return direction == DIR_INGRESS ? REASON_MEMBERSHIP : REASON_ROGUE_MEMBERSHIP;
	if (!is_known_report(f))
		return REASON_ROGUE_MEMBERSHIP;
	return direction == DIR_EGRESS ? REASON_MEMBERSHIP : REASON_NOT_FOR_VM;
}

#endif
