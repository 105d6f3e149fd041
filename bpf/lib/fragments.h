/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Fragments in the order they were cut: the first brings the ports, later ones follow it, none overlaps. */
#ifndef BUCKLER_FRAGMENTS_H
#define BUCKLER_FRAGMENTS_H

#include "parse.h"

#define FRAGMENT_TIMEOUT 30000000000ULL

/* Returns 0 with the frame's ports filled in, or REASON_FRAGMENT. */
STAGE follow_fragment(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct fragment_key key = {};
	struct fragment *known, first = {};
	__u32 slot, end;
	void *table;
	__u64 now;
	KEEP(skb);
	if (!f)
		return REASON_FRAGMENT;
	now = f->now;
	slot = f->index >> 1;
	table = bpf_map_lookup_elem(&fragments, &slot);
	if (!table)
		return REASON_FRAGMENT;
	key.source = f->source;
	key.destination = f->destination;
	key.identification = f->fragment_id;
	key.protocol = f->version == 6 ? NEXT_FRAGMENT : f->protocol; /* RFC 8200, 4.5: IPv6 names no protocol here */
	key.direction = direction;
	end = f->fragment_offset + f->l4_length;
	if (!f->l4_length || end > 65535 || (f->more_fragments && (f->l4_length & 7)))
		return REASON_FRAGMENT;
	if (f->fragment == FRAGMENT_FIRST) {
		first.expires = now + FRAGMENT_TIMEOUT;
		first.end = end;
		first.source_port = f->source_port;
		first.destination_port = f->destination_port;
		first.policy_port = f->policy_port;
		first.protocol = f->protocol;
		first.icmp_type = f->icmp_type;
		known = bpf_map_lookup_elem(table, &key);
		if (known && known->expires > now) { /* a second first: both are done for */
			known->end = 0xffffffff;
			return REASON_FRAGMENT;
		}
		return bpf_map_update_elem(table, &key, &first, BPF_ANY) ? REASON_FRAGMENT : 0;
	}
	known = bpf_map_lookup_elem(table, &key);
	if (!known || known->expires < now)
		return REASON_FRAGMENT;
	if (f->fragment_offset < known->end) {
		known->end = 0xffffffff; /* an overlap spoils the whole datagram */
		return REASON_FRAGMENT;
	}
	known->end = end;
	f->source_port = known->source_port;
	f->destination_port = known->destination_port;
	f->policy_port = known->policy_port;
	f->protocol = known->protocol; /* only the first fragment's counts */
	f->icmp_type = known->icmp_type;
	if (!f->more_fragments)
		bpf_map_delete_elem(table, &key);
	return 0;
}

#endif
