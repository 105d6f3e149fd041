/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* IGMP and MLD: VMs report, routers and bridges query. Membership opens nothing: group traffic still needs a rule. */
#ifndef BUCKLER_MEMBERSHIP_H
#define BUCKLER_MEMBERSHIP_H

#include "frame.h"

#define IGMP_REPORT_3 0x22
#define MLD_REPORT_2 143
#define MAX_RECORDS 32
#define MAX_SOURCES 16

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

/* A report has the size that its standard gives it, else a VM that may speak to nobody could write to all. Not 0: no. */
STAGE check_report(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	__u8 h[8];
	__u32 at, end, size, records;
	if (!f)
		return 1;
	size = f->version == 4 ? 4 : 16;
	at = f->l4 + 8;
	end = f->l4 + f->l4_length;
	if (f->icmp_type != IGMP_REPORT_3 && f->icmp_type != MLD_REPORT_2)
		return at + (f->version == 4 ? 0 : 16) != end;
	if (bpf_skb_load_bytes(skb, f->l4, h, 8))
		return 1;
	records = h[6] << 8 | h[7];
	for (__u32 i = 0; i < MAX_RECORDS; i++) {
		if (i >= records)
			break;
		if (at >= end || bpf_skb_load_bytes(skb, at, h, 4) || h[1] || h[2] || h[3] > MAX_SOURCES)
			return 1;
		at += 4 + size + h[3] * size;
	}
	return records > MAX_RECORDS || at != end;
}

/* The source is checked to be one's own before; RFC 2710, 3 and RFC 3810, 5: link-local source, hop limit 1. */
INLINE int judge_membership(struct __sk_buff *skb, const struct frame *f, __u32 direction)
{
	if (f->fragment || f->hop_limit != 1 || !f->group)
		return REASON_ROGUE_MEMBERSHIP;
	if (f->version == 6 && !is_link_local(&f->source))
		return REASON_ROGUE_MEMBERSHIP;
	if (f->l4 > ETH_LENGTH + 60 || has_trailer(skb, f->l4 + f->l4_length))
		return REASON_ROGUE_MEMBERSHIP;
	if (is_query(f))
		return direction == DIR_INGRESS ? REASON_MEMBERSHIP : REASON_ROGUE_MEMBERSHIP;
	if (!is_known_report(f))
		return REASON_ROGUE_MEMBERSHIP;
	if (direction == DIR_INGRESS)
		return REASON_NOT_FOR_VM;
	return check_report(skb) ? REASON_ROGUE_MEMBERSHIP : REASON_MEMBERSHIP;
}

#endif
