/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What policy decided lately, per CPU, so that the next new flow between the same two costs one look instead of six.
 * Owns no decision. What is remembered holds for one side of one slot, one generation and one state of the address book. */
#ifndef BUCKLER_DECISIONS_H
#define BUCKLER_DECISIONS_H

#include "frame.h"

#define DECISIONS 1024 /* per CPU; a power of two */

/* `local` was found among the VM's own addresses and both addresses fit for a unicast packet before this was written. */
struct decision {
	struct address remote, local;
	__u64 stamp, until;
	__u32 index, book;
	__u16 port;
	__u8 protocol, direction;
	__u32 peer_identity, peer_vm, rule, observed, staged_rule;
	__u8 staged, outcome; /* RECALLED_* */
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DECISIONS);
	__type(key, __u32);
	__type(value, struct decision);
} decisions SEC(".maps");

INLINE struct decision *find_place(const struct frame *f, const struct address *remote, __u32 direction)
{
	__u64 a, b, mixed;
	__u32 place;
	__builtin_memcpy(&a, remote->bytes, 8);
	__builtin_memcpy(&b, remote->bytes + 8, 8);
	mixed = a ^ b ^ (__u64)f->policy_port << 16 ^ (__u64)f->protocol << 8 ^ (__u64)f->index << 32 ^ direction;
	mixed = (mixed ^ mixed >> 32) * 0x9e3779b97f4a7c15ULL; /* an address ends in the highest byte: fold it down */
	place = mixed >> 54 & (DECISIONS - 1);
	return bpf_map_lookup_elem(&decisions, &place);
}

INLINE const struct address *remote_of(const struct frame *f, __u32 direction)
{
	return direction == DIR_EGRESS ? &f->destination : &f->source;
}

INLINE const struct address *local_of(const struct frame *f, __u32 direction)
{
	return direction == DIR_EGRESS ? &f->source : &f->destination;
}

/* Take over what was decided for such a packet. Returns 0 if nothing valid is remembered. */
INLINE int recall_decision(struct frame *f, __u32 direction)
{
	const struct address *remote = remote_of(f, direction);
	const struct decision *d = find_place(f, remote, direction);
	if (!d || d->stamp != f->stamp || d->index != f->index || d->book != f->book || (f->book & 1) ||
	    d->port != f->policy_port || d->protocol != f->protocol || d->direction != direction)
		return 0;
	if (d->until <= f->now || !same_address(&d->remote, remote) || !same_address(&d->local, local_of(f, direction)))
		return 0;
	f->peer_identity = d->peer_identity;
	f->peer_vm = d->peer_vm;
	f->rule = d->rule;
	f->observed = d->observed;
	f->staged = d->staged;
	f->staged_rule = d->staged_rule;
	f->until = d->until;
	f->connections = 0;
	f->decided = 1;
	f->rule_direction = direction;
	f->recalled = d->outcome;
	f->rejected = d->outcome == RECALLED_REJECTED;
	return 1;
}

/* Not what is told or counted each time, nor what has ended and may be given another end. */
INLINE void remember_decision(const struct frame *f, __u32 direction, int refused)
{
	const struct address *remote = remote_of(f, direction);
	struct decision *d = find_place(f, remote, direction);
	if (!d || !f->stamp || (f->book & 1) || f->logged || f->connections || refused == REASON_EXPIRED)
		return;
	d->remote = *remote;
	d->local = *local_of(f, direction);
	d->stamp = f->stamp;
	d->index = f->index;
	d->book = f->book;
	d->port = f->policy_port;
	d->protocol = f->protocol;
	d->direction = direction;
	d->peer_identity = f->peer_identity;
	d->peer_vm = f->peer_vm;
	d->rule = f->rule;
	d->observed = f->observed;
	d->staged = f->staged;
	d->staged_rule = f->staged_rule;
	d->until = f->until;
	d->outcome = !refused ? RECALLED_ALLOWED : f->rejected ? RECALLED_REJECTED : RECALLED_DENIED;
}

#endif
