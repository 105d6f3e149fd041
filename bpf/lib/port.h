/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Bridge ports that are no tap: what may come in. Owns no policy: the receiver's shield judges every frame again.
 * Outside ports never carry a pool VM's MAC or address inward; tunnels never those of a VM that has spoken on this host
 * (a VM that is still arriving speaks through the tunnel until its first own frame). Neither carries INFRA.
 */
#ifndef BUCKLER_PORT_H
#define BUCKLER_PORT_H

#include "arp.h"
#include "counters.h"
#include "nd.h"
#include "tap.h"

/* May this VM not be the source of a frame that enters here? */
INLINE int is_foreign(__u32 role, __u32 vm)
{
	if (!vm)
		return 0;
	return role == PORT_OUTSIDE || bpf_map_lookup_elem(&residents, &vm) != 0;
}

INLINE int get_foreign_reason(__u32 role)
{
	return role == PORT_OUTSIDE ? REASON_FOREIGN_OUTSIDE : REASON_FOREIGN_TUNNEL;
}

STAGE check_claim(struct __sk_buff *skb, __u32 role)
{
	struct frame *f = get_frame(0);
	if (!f || resolve_peer(skb, 0))
		return REASON_INFRA;
	return is_foreign(role, f->peer_vm) ? get_foreign_reason(role) : 0;
}

/* An advertisement claims its target, whoever sends it. */
STAGE check_nd_claim(struct __sk_buff *skb, __u32 role)
{
	struct frame *f = get_frame(0);
	if (!f || bpf_skb_load_bytes(skb, f->l4 + 8, &f->source, 16))
		return REASON_MALFORMED;
	return check_claim(skb, role);
}

STAGE judge_port_ip(struct __sk_buff *skb, __u32 role)
{
	struct frame *f = get_frame(0);
	int reason;
	if (!f)
		return REASON_MALFORMED;
	reason = f->ethertype == ETHERTYPE_IPV4 ? parse_ipv4(skb, 0, ETH_LENGTH) : parse_ipv6(skb, 0, ETH_LENGTH);
	if (!reason)
		reason = parse_transport(skb, 0);
	if (!reason)
		reason = check_claim(skb, role);
	if (reason)
		return reason;
	if (is_infra(f->zone, &f->destination))
		return REASON_INFRA;
	if (is_nd(f) && f->icmp_type == ND_NEIGHBOUR_ADVERTISEMENT) {
		reason = check_nd_claim(skb, role);
		if (reason)
			return reason;
	}
	return REASON_PORT;
}

STAGE judge_port_arp(struct __sk_buff *skb, __u32 role)
{
	struct frame *f = get_frame(0);
	struct arp arp;
	int reason;
	if (!f || parse_arp(skb, f, &arp))
		return REASON_MALFORMED;
	if (!same_mac(arp.sender_mac, f->source_mac))
		return REASON_SPOOFED_ARP;
	reason = check_claim(skb, role);
	if (reason)
		return reason;
	return is_infra(f->zone, &f->destination) ? REASON_INFRA : REASON_PORT;
}

INLINE int judge_port_frame(struct __sk_buff *skb, struct frame *f, __u32 role)
{
	struct port_key key = {.ifindex = f->ifindex, .vlan = get_vlan(skb)};
	struct mac_key mac = {};
	struct port *port = bpf_map_lookup_elem(&ports, &key);
	__u32 *vm;
	int refused;
	if (!port || port->role != role)
		return REASON_UNCONFIGURED;
	f->zone = port->zone;
	refused = parse_ethernet(skb, f);
	if (refused)
		return refused;
	mac.zone = f->zone;
	__builtin_memcpy(mac.mac, f->source_mac, 6);
	vm = bpf_map_lookup_elem(&macs, &mac);
	if (vm && is_foreign(role, *vm))
		return get_foreign_reason(role);
	if (f->ethertype == ETHERTYPE_IPV4 || f->ethertype == ETHERTYPE_IPV6)
		return judge_port_ip(skb, role);
	if (f->ethertype == ETHERTYPE_ARP || f->ethertype == ETHERTYPE_RARP)
		return judge_port_arp(skb, role);
	return REASON_ETHERTYPE;
}

INLINE int judge_port(struct __sk_buff *skb, __u32 role)
{
	struct frame *f = get_frame(0);
	__u32 reason;
	if (!f)
		return VERDICT_DROP;
	__builtin_memset(f, 0, sizeof(*f));
	f->ifindex = skb->ifindex;
	f->length = get_length(skb);
	reason = judge_port_frame(skb, f, role);
	count_reason(f->ifindex, DIR_INGRESS, reason, f->length);
	if (is_refused(reason))
		return VERDICT_DROP;
	skb->mark |= MARK_JUDGED;
	return VERDICT_PASS;
}

#endif
