/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ARP (RFC 826, RFC 5227) and the RARP that QEMU announces a move with. Outside policy: address resolution, never data. */
#ifndef BUCKLER_ARP_H
#define BUCKLER_ARP_H

#include "peer.h"

#define ARP_REQUEST 1
#define ARP_REPLY 2
#define RARP_REQUEST 3

struct arp {
	__u8 hardware[2], protocol[2], hardware_length, protocol_length, operation[2];
	__u8 sender_mac[6], sender[4], target_mac[6], target[4];
};

/* Load the 28 bytes for Ethernet and IPv4. The frame's source and destination become sender and target. */
INLINE int parse_arp(struct __sk_buff *skb, struct frame *f, struct arp *arp)
{
	if (bpf_skb_load_bytes(skb, ETH_LENGTH, arp, sizeof(*arp)))
		return REASON_MALFORMED;
	if (has_trailer(skb, ETH_LENGTH + sizeof(*arp)))
		return REASON_MALFORMED;
	if (arp->hardware[0] || arp->hardware[1] != 1 || arp->protocol[0] != 8 || arp->protocol[1] ||
	    arp->hardware_length != 6 || arp->protocol_length != 4)
		return REASON_MALFORMED;
	set_ipv4(&f->source, arp->sender);
	set_ipv4(&f->destination, arp->target);
	return 0;
}

STAGE judge_arp(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct endpoint *endpoint;
	struct arp arp;
	if (!f || parse_arp(skb, f, &arp))
		return REASON_MALFORMED;
	endpoint = get_endpoint(f->index);
	if (!endpoint)
		return REASON_UNCONFIGURED;
	if (arp.operation[0] || (arp.operation[1] != ARP_REQUEST && arp.operation[1] != ARP_REPLY))
		return REASON_MALFORMED;
	if (!same_mac(arp.sender_mac, f->source_mac))
		return REASON_SPOOFED_ARP;
	if (is_group(&f->source) || is_loopback(&f->source) || is_group(&f->destination))
		return REASON_MARTIAN;
	if (is_infra(f->zone, &f->source) || is_infra(f->zone, &f->destination))
		return REASON_INFRA;
	if (direction == DIR_EGRESS) {
		if (!is_unspecified(&f->source) && !owns_address(f->index, &f->source))
			return REASON_SPOOFED_ARP;
		if (is_unspecified(&f->source) && arp.operation[1] != ARP_REQUEST)
			return REASON_SPOOFED_ARP;
		if (is_unspecified(&f->source) && !owns_address(f->index, &f->destination)) {
			f->claim = CLAIM_DETECTED; /* RFC 5227; dropped, as it could deny the address to its owner */
			return REASON_SPOOFED_ARP;
		}
		return REASON_ARP;
	}
	/* gratuitous ones tell of the sender; all others must ask for or answer this VM */
	if (same_address(&f->source, &f->destination) || owns_address(f->index, &f->destination))
		return REASON_ARP;
	return REASON_NOT_FOR_VM;
}

STAGE judge_rarp(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct arp arp;
	if (!f || parse_arp(skb, f, &arp))
		return REASON_MALFORMED;
	if (direction == DIR_INGRESS)
		return REASON_NOT_FOR_VM; /* it is for bridges only */
	if (arp.operation[0] || arp.operation[1] != RARP_REQUEST)
		return REASON_MALFORMED;
	if (!same_mac(arp.sender_mac, f->source_mac) || !same_mac(arp.target_mac, f->source_mac))
		return REASON_SPOOFED_ARP;
	if (!is_unspecified(&f->source) || !is_unspecified(&f->destination))
		return REASON_SPOOFED_ARP;
	return REASON_RARP;
}

#endif
