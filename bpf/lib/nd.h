/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Neighbour discovery (RFC 4861, RFC 4862): outside policy, but only as truth about oneself. Owns no other ICMPv6. */
#ifndef BUCKLER_ND_H
#define BUCKLER_ND_H

#include "peer.h"
#include "parse.h"

#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_NEIGHBOUR_SOLICITATION 135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_REDIRECT 137
#define ND_OPTION_SOURCE_MAC 1
#define ND_OPTION_TARGET_MAC 2
#define ND_OPTION_NONCE 14
#define MAX_ND_OPTIONS 16

INLINE int is_nd(const struct frame *f)
{
	return f->protocol == PROTO_ICMPV6 && f->icmp_type >= ND_ROUTER_SOLICITATION && f->icmp_type <= ND_REDIRECT;
}

/*
 * Every option well formed, and every link-layer address that of the frame's own sender. Solicitations and neighbour
 * advertisements bring nothing else but a nonce (RFC 3971, RFC 7527): they pass without a rule, so they carry no data.
 */
STAGE check_nd_options(struct __sk_buff *skb, __u32 offset)
{
	struct frame *f = get_frame(0);
	__u32 end, at = offset;
	if (!f)
		return REASON_MALFORMED;
	end = f->l4 + f->l4_length;
	for (int i = 0; i < MAX_ND_OPTIONS; i++) {
		__u8 option[8];
		if (at >= end)
			return at == end ? 0 : REASON_MALFORMED;
		if (bpf_skb_load_bytes(skb, at, option, 8) || !option[1])
			return REASON_MALFORMED;
		if ((option[0] == ND_OPTION_SOURCE_MAC || option[0] == ND_OPTION_TARGET_MAC) &&
		    (option[1] != 1 || !same_mac(option + 2, f->source_mac)))
			return REASON_SPOOFED_ND;
		if (f->icmp_type != ND_ROUTER_ADVERTISEMENT &&
		    ((option[0] != ND_OPTION_SOURCE_MAC && option[0] != ND_OPTION_TARGET_MAC &&
		      option[0] != ND_OPTION_NONCE) ||
		     option[1] != 1 || i > 1))
			return REASON_SPOOFED_ND;
		at += option[1] * 8;
	}
	return at == end ? 0 : REASON_MALFORMED;
}

/* What a VM may say: ask, answer for its own addresses, probe for its own. */
INLINE int judge_nd_egress(struct frame *f, const struct address *target)
{
	int unspecified = is_unspecified(&f->source);
	if (!unspecified && !owns_address(f->index, &f->source))
		return REASON_SPOOFED_ADDRESS;
	if (f->icmp_type == ND_ROUTER_ADVERTISEMENT)
		return !unspecified && (flags_of(f->zone, &f->source) & ADDR_ROUTER) ? REASON_ND : REASON_ROGUE_ROUTER;
	if (f->icmp_type == ND_ROUTER_SOLICITATION)
		return REASON_ND;
	if (f->icmp_type == ND_NEIGHBOUR_ADVERTISEMENT)
		return !unspecified && owns_address(f->index, target) ? REASON_ND : REASON_SPOOFED_ND;
	if (unspecified && !owns_address(f->index, target)) {
		/* RFC 4862, 5.4.2; dropped, as it could deny the address to its owner */
		f->claim = f->group ? CLAIM_DETECTED : 0;
		return REASON_SPOOFED_ND;
	}
	return REASON_ND;
}

INLINE int judge_nd_ingress(struct frame *f, const struct address *target)
{
	if (f->icmp_type == ND_ROUTER_ADVERTISEMENT)
		return flags_of(f->zone, &f->source) & ADDR_ROUTER ? REASON_ND : REASON_ROGUE_ROUTER;
	if (f->icmp_type == ND_NEIGHBOUR_SOLICITATION)
		return owns_address(f->index, target) ? REASON_ND : REASON_NOT_FOR_VM;
	if (f->icmp_type == ND_NEIGHBOUR_ADVERTISEMENT)
		return REASON_ND;
	return REASON_NOT_FOR_VM; /* router solicitations */
}

STAGE judge_nd(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct address target = {};
	__u32 options;
	int refused;
	if (!f)
		return REASON_MALFORMED;
	if (f->hop_limit != 255 || f->icmp_code || f->fragment)
		return REASON_SPOOFED_ND;
	if (f->l4 != ETH_LENGTH + 40 ||
	    has_trailer(skb, f->l4 + f->l4_length)) /* RFC 6980: not even an empty fragment header */
		return REASON_SPOOFED_ND;
	if (f->icmp_type == ND_REDIRECT)
		return REASON_ROGUE_ROUTER;
	if (is_unspecified(&f->source) && !is_group(&f->destination))
		return REASON_SPOOFED_ND; /* RFC 4861, 7.1.1: who has no address yet asks a group */
	options = f->l4 + (f->icmp_type == ND_ROUTER_SOLICITATION    ? 8
			   : f->icmp_type == ND_ROUTER_ADVERTISEMENT ? 16
								     : 24);
	if (f->icmp_type >= ND_NEIGHBOUR_SOLICITATION) {
		if (bpf_skb_load_bytes(skb, f->l4 + 8, &target, 16))
			return REASON_MALFORMED;
		if (is_group(&target) || is_mapped(&target) || is_unspecified(&target))
			return REASON_MARTIAN;
		if (is_infra(f->zone, &target))
			return REASON_INFRA;
	}
	if (is_infra(f->zone, &f->source) || is_infra(f->zone, &f->destination))
		return REASON_INFRA;
	refused = check_nd_options(skb, options);
	if (refused)
		return refused;
	return direction == DIR_EGRESS ? judge_nd_egress(f, &target) : judge_nd_ingress(f, &target);
}

#endif
