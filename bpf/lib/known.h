/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The short way of a plain packet: what its connection, or the last decision for the same two ends, vouches for is not asked
 * again. Both were made under the very generation that is in force (the stamp), after every check of addresses and INFRA,
 * for these same addresses. Owns no verdict: whatever is not plainly so goes the long way.
 */
#ifndef BUCKLER_KNOWN_H
#define BUCKLER_KNOWN_H

#include "conntrack.h"
#include "plain.h"

INLINE int is_known(const struct frame *f, const struct connection *c)
{
	return c->stamp == f->stamp && c->expires >= f->now && c->until > f->now && !f->opens &&
	       (c->state == STATE_ESTABLISHED || c->state == STATE_CLOSING);
}

INLINE int follow_known(struct __sk_buff *skb, struct frame *f, struct connection *c, __u32 direction)
{
	int refused;
	take_decision(f, c);
	if (f->protocol == PROTO_TCP) {
		refused = track_tcp(skb, f, c, direction);
		if (refused)
			return refused;
	}
	keep_alive(f, c);
	return REASON_ESTABLISHED;
}

/* Where the network has virtual addresses: is it of the same way, and its member still one? */
INLINE int is_this_way(struct __sk_buff *skb, struct frame *f, const struct connection *c, __u32 direction)
{
	if (direction == DIR_EGRESS)
		return c->service == f->service;
	if (c->service && !is_served(skb, c->service))
		return 0;
	f->service = c->service;
	return 1;
}

/* Judge a plain frame, or return 0: the long way. `served`: its network has virtual addresses. */
INLINE int judge_known(struct __sk_buff *skb, struct frame *f, __u32 direction, const int served)
{
	struct draft *draft = get_draft();
	struct connection *c;
	__u32 slot = f->index >> 1;
	void *table = bpf_map_lookup_elem(&established, &slot);
	void *half_open;
	if (!draft || !table)
		return 0;
	set_key(&draft->key, f, direction);
	c = bpf_map_lookup_elem(table, &draft->key);
	if (c) {
		if (!is_known(f, c) || (served && !is_this_way(skb, f, c, direction)))
			return 0;
		return follow_known(skb, f, c, direction);
	}
	half_open = bpf_map_lookup_elem(&waiting, &slot);
	draft->hash = hash_key(&draft->key);
	if (!half_open || find_waiting(half_open, &draft->key, draft->hash))
		return 0;
	f->missed = 1;
	if (f->protocol == PROTO_TCP && !f->opens)
		return 0;
	return recall_decision(f, direction) ? open_connection(skb, direction) : 0;
}

#endif
