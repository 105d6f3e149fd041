/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whose an address is. Owns the order of the look-ups: INFRA first, then the exact address, then the longest prefix. */
#ifndef BUCKLER_PEER_H
#define BUCKLER_PEER_H

#include "frame.h"

INLINE struct owner *find_in_zone(__u32 zone, const struct address *a)
{
	struct host_key exact = {.zone = zone, .address = *a};
	struct prefix_key wide = {.prefix_length = 160, .zone = zone, .address = *a};
	struct owner *owner = bpf_map_lookup_elem(&hosts, &exact);
	return owner ? owner : bpf_map_lookup_elem(&prefixes, &wide);
}

/* Fill peer_* of the frame from one of its addresses (0: source, 1: destination). Returns REASON_INFRA or 0. */
STAGE resolve_peer(struct __sk_buff *skb, __u32 of_destination)
{
	struct frame *f = get_frame(0);
	struct owner *owner;
	struct address a;
	KEEP(skb);
	if (!f)
		return REASON_INFRA;
	a = of_destination ? f->destination : f->source;
	f->peer_vm = 0;
	f->peer_flags = 0;
	f->peer_identity = IDENTITY_WORLD;
	owner = find_in_zone(0, &a);
	if (!owner)
		owner = find_in_zone(f->zone, &a);
	if (owner) {
		f->peer_identity = owner->identity;
		f->peer_vm = owner->vm;
		f->peer_flags = owner->flags;
	}
	return f->peer_identity == IDENTITY_INFRA ? REASON_INFRA : 0;
}

/* The VM's own declared flags (it may be a network's router or DHCP server). */
INLINE __u32 flags_of(__u32 zone, const struct address *a)
{
	struct owner *owner = find_in_zone(zone, a);
	return owner ? owner->flags : 0;
}

INLINE int is_infra(__u32 zone, const struct address *a)
{
	struct owner *owner = find_in_zone(0, a);
	if (owner && owner->identity == IDENTITY_INFRA)
		return 1;
	owner = find_in_zone(zone, a);
	return owner && owner->identity == IDENTITY_INFRA;
}

#endif
