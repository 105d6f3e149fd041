/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How a frame of a tap is judged, from the Ethernet header to the verdict. Owns the order of the checks, not the checks. */
#ifndef BUCKLER_TAP_H
#define BUCKLER_TAP_H

#include "answer.h"
#include "arp.h"
#include "claims.h"
#include "conntrack.h"
#include "counters.h"
#include "dhcp.h"
#include "dns.h"
#include "events.h"
#include "fragments.h"
#include "icmp.h"
#include "known.h"
#include "membership.h"
#include "nd.h"
#include "offload.h"
#include "virtual.h"

#define VERDICT_PASS TC_ACT_UNSPEC /* = TCX_NEXT: other programs may still refuse */
#define VERDICT_DROP TC_ACT_SHOT

INLINE __u32 get_length(struct __sk_buff *skb)
{
	return skb->len + (skb->vlan_present ? 4 : 0); /* the tag stands beside the frame; the interface counts it */
}

/* Fill the frame's Ethernet part. An inner tag (Q-in-Q) or an in-band one is never ours. */
INLINE int parse_ethernet(struct __sk_buff *skb, struct frame *f)
{
	const __u8 *h = (void *)(long)skb->data;
	if (h + ETH_LENGTH > (const __u8 *)(long)skb->data_end)
		return REASON_MALFORMED;
	((__u32 *)f->destination_mac)[0] = ((const __u32 *)h)[0];
	((__u32 *)f->destination_mac)[1] = ((const __u32 *)h)[1];
	((__u32 *)f->destination_mac)[2] = ((const __u32 *)h)[2];
	f->ethertype = bpf_ntohs(*(const __u16 *)(h + 12));
	if (!read_mac(f->source_mac) || !read_mac(f->destination_mac) || (f->source_mac[0] & 1))
		return REASON_SPOOFED_MAC;
	if (f->ethertype == ETHERTYPE_VLAN || f->ethertype == ETHERTYPE_QINQ)
		return REASON_VLAN;
	if (skb->vlan_present && skb->vlan_proto != bpf_htons(ETHERTYPE_VLAN))
		return REASON_VLAN;
	return 0;
}

INLINE __u32 get_vlan(struct __sk_buff *skb)
{
	return skb->vlan_present ? skb->vlan_tci & 0xfff : 0;
}

/* Addresses that may stand in a unicast or group frame at all, and whose. Own source is not asked of DHCP's 0.0.0.0. */
STAGE check_addresses(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	KEEP(skb);
	if (!f)
		return REASON_MALFORMED;
	int group_mac = f->destination_mac[0] & 1;
	f->group = group_mac || is_group(&f->destination);
	if (is_group(&f->source) || is_loopback(&f->source) || is_loopback(&f->destination) ||
	    is_unspecified(&f->destination) || same_address(&f->source, &f->destination))
		return REASON_MARTIAN;
	if (is_unspecified(&f->source)) {
		if (f->version == 4 && f->group && is_to_dhcp_server(f))
			return 0;
		return is_nd(f) ? 0 : REASON_SPOOFED_ADDRESS; /* nd.h asks more of :: */
	}
	if (direction == DIR_EGRESS)
		return owns_address(f->index, &f->source) ? 0 : REASON_SPOOFED_ADDRESS;
	if (is_group(&f->destination))
		return 0;
	if (group_mac) /* RFC 1122, 3.3.6: no unicast within a broadcast */
		return owns_address(f->index, &f->destination) ? REASON_MARTIAN : 0;
	return owns_address(f->index, &f->destination) || is_offer(f) ? 0 : REASON_NOT_FOR_VM;
}

STAGE judge_ip(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	int reason = 0;
	if (!f)
		return REASON_MALFORMED;
	if (!f->plain)
		reason = f->ethertype == ETHERTYPE_IPV4 ? parse_ipv4(skb, 0, ETH_LENGTH)
							: parse_ipv6(skb, 0, ETH_LENGTH);
	if (!reason && !f->plain)
		reason = parse_transport(skb, 0);
	if (!reason && !is_offload_harmless(f))
		reason = REASON_MALFORMED;
	if (!reason && f->served && !f->plain && direction == DIR_EGRESS && !is_nd(f))
		reason = enter_service(skb);
	if (!reason)
		reason = check_addresses(skb, direction);
	if (!reason && f->fragment)
		reason = follow_fragment(skb, direction);
	if (reason)
		return reason;
	if (is_icmp_redirect(f))
		return REASON_ROGUE_ROUTER;
	if (is_nd(f))
		return judge_nd(skb, direction);
	if (is_membership(f))
		return judge_membership(skb, f, direction);
	reason = judge_dhcp(skb, direction);
	if (reason)
		return reason;
	if (is_icmp_error(f))
		return judge_icmp_error(skb, direction);
	if (f->group || ((f->protocol == PROTO_ICMP || f->protocol == PROTO_ICMPV6) && !is_echo(f)))
		return judge_stateless(skb, direction);
	return judge_flow(skb, direction);
}

INLINE int judge_unknown(struct __sk_buff *skb, struct frame *f, __u32 direction)
{
	if (f->ethertype == ETHERTYPE_IPV4 || f->ethertype == ETHERTYPE_IPV6)
		return judge_ip(skb, direction);
	if (f->summed || f->cut_size)
		return REASON_MALFORMED;
	if (f->ethertype == ETHERTYPE_ARP)
		return judge_arp(skb, direction);
	if (f->ethertype == ETHERTYPE_RARP)
		return judge_rarp(skb, direction);
	return REASON_ETHERTYPE;
}

/* Where the network has virtual addresses: the same judgement, of the member, and what has to be written into the frame. */
STAGE judge_served(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	int reason = 0;
	if (!f)
		return REASON_MALFORMED;
	f->served = 1;
	if (f->plain && is_offload_harmless(f)) {
		if (direction == DIR_EGRESS)
			reason = enter_service(skb);
		if (!reason)
			reason = judge_known(skb, f, direction, 1);
	}
	if (!reason)
		reason = judge_unknown(skb, f, direction);
	if (direction == DIR_INGRESS && (!f->service || reason == REASON_RELATED) && find_service(f->zone, &f->source))
		return REASON_SPOOFED_ADDRESS; /* nobody has it */
	if (!f->service)
		return direction == DIR_EGRESS ? resolve_virtual(skb, reason) : reason;
	if (!is_refused(reason) && (reason == REASON_RELATED ? translate_error(skb) : translate(skb, direction)))
		return REASON_MALFORMED;
	return reason;
}

INLINE int judge_frame(struct __sk_buff *skb, struct frame *f, __u32 direction)
{
	struct endpoint *endpoint;
	struct settings *s = get_settings();
	__u32 *index = bpf_map_lookup_elem(&tap_index, &f->ifindex);
	int refused;
	if (!index || !s)
		return REASON_UNCONFIGURED;
	f->index = *index;
	endpoint = get_endpoint(f->index);
	if (!endpoint || endpoint->ifindex != f->ifindex || !endpoint->generation)
		return REASON_UNCONFIGURED;
	f->vm = endpoint->vm;
	f->zone = endpoint->zone;
	f->mode = endpoint->mode;
	f->stamp = s->generation << 32 | endpoint->generation;
	f->book = *(volatile __u32 *)&s->book; /* before anything is looked up in it */
	f->now = get_now();
	refused = parse_ethernet(skb, f);
	if (refused)
		return refused;
	if (get_vlan(skb) != endpoint->vlan)
		return REASON_VLAN;
	if (direction == DIR_EGRESS && skb->vlan_present && skb->vlan_tci != endpoint->vlan)
		return REASON_VLAN; /* a VM sets no priority of its own on the hosts' wires */
	if (direction == DIR_EGRESS && skb->vlan_present && !endpoint->vlan)
		return REASON_VLAN;
	if (direction == DIR_EGRESS && read_mac(f->source_mac) != read_mac(endpoint->mac))
		return REASON_SPOOFED_MAC;
	if (direction == DIR_INGRESS && !(f->destination_mac[0] & 1) &&
	    read_mac(f->destination_mac) != read_mac(endpoint->mac))
		return REASON_NOT_FOR_VM;
	if (direction == DIR_INGRESS && read_mac(f->source_mac) == read_mac(endpoint->mac))
		return REASON_SPOOFED_MAC;
	if (direction == DIR_EGRESS)
		read_offload(skb, f);
	f->plain = read_plain(skb, f);
	if (endpoint->services)
		return judge_served(skb, direction);
	if (f->plain && is_offload_harmless(f)) {
		int reason = judge_known(skb, f, direction, 0);
		if (reason)
			return reason;
	}
	return judge_unknown(skb, f, direction);
}

/* The first frame that a VM itself sends here says that it lives here: from now on no tunnel may bring its frames. */
INLINE void note_resident(const struct frame *f)
{
	__u32 slot = f->index >> 1, vm = f->vm, ifindex = f->ifindex;
	struct tap_state *state = bpf_map_lookup_elem(&tap_states, &slot);
	if (!state || state->spoke)
		return;
	state->spoke = 1;
	bpf_map_update_elem(&residents, &vm, &ifindex, BPF_ANY);
}

INLINE int is_event(__u32 reason)
{
	if (reason >= REASON_FIRST_REFUSAL)
		return reason != REASON_NOT_FOR_VM; /* a bridge floods: nothing is told by that */
	return reason == REASON_NEW || reason == REASON_OBSERVED;
}

/* Tell of what it was, by one of two budgets. */
INLINE void tell(struct __sk_buff *skb, const struct frame *f, __u32 direction, __u32 reason)
{
	int within;
	if (is_logged(f, reason))
		within = is_within_logged(skb);
	else if (is_event(reason) && reason != REASON_UNCONFIGURED)
		within = is_within_budget(f->index, f->now);
	else
		return;
	if (within)
		emit_event(skb, direction, reason);
	else
		count_untold(&sheds, 0);
}

/* The shield's own: made from a frame that was judged, and by nobody else (see answer.h). */
INLINE int is_answer_of_ours(const struct __sk_buff *skb, const struct frame *f, __u32 direction)
{
	return direction == DIR_INGRESS ? f->answering == skb->ifindex : skb->mark & MARK_ANSWER;
}

INLINE int let_answer_pass(struct __sk_buff *skb, struct frame *f, __u32 direction)
{
	count_reason(skb->ifindex, direction, REASON_ANSWER, get_length(skb));
	if (direction == DIR_INGRESS)
		f->answering = 0;
	skb->mark = direction == DIR_INGRESS ? 0 : MARK_JUDGED;
	return VERDICT_PASS;
}

INLINE int judge_tap(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	__u32 reason;
	if (!f)
		return VERDICT_DROP;
	if (is_answer_of_ours(skb, f, direction))
		return let_answer_pass(skb, f, direction);
	__builtin_memset(f, 0, FRAME_KEEPS);
	f->ifindex = skb->ifindex;
	f->length = get_length(skb);
	reason = judge_frame(skb, f, direction);
	count_reason(f->ifindex, direction, reason, f->length);
	if (f->decided) {
		count_pair(f, reason < REASON_FIRST_REFUSAL);
		if (f->staged)
			count_staged(skb, reason < REASON_FIRST_REFUSAL);
	}
	if (reason != REASON_ESTABLISHED) { /* most are, and of them nothing is told */
		if (reason == REASON_POLICY && f->rejected)
			f->answered = may_answer(skb, direction);
		tell(skb, f, direction, reason);
		if (reason == REASON_RESOLVED) {
			send_resolution(skb);
			return VERDICT_DROP;
		}
	}
	if (f->claim || (direction == DIR_INGRESS && reason == REASON_DHCP))
		emit_claim(skb, f->claim);
	if (is_refused(reason)) {
		if (f->answered == ANSWERED_REJECTION)
			send_answer(skb, direction);
		else if (f->answered)
			send_resolution(skb);
		return VERDICT_DROP;
	}
	if (is_dns(f, direction) && !f->tolerated && reason != REASON_OBSERVED)
		emit_dns(skb, direction);
	if (direction == DIR_EGRESS) {
		note_resident(f);
		skb->mark |= MARK_JUDGED;
	} else {
		skb->mark &= ~MARK_JUDGED;
	}
	return VERDICT_PASS;
}

#endif
