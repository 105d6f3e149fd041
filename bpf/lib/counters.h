/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counting: each frame once under its reason, each decision of a rule once under its pair. */
#ifndef BUCKLER_COUNTERS_H
#define BUCKLER_COUNTERS_H

#include "frame.h"

/* The one place where a reason becomes a refusal. */
INLINE int is_refused(__u32 reason)
{
	return reason >= REASON_FIRST_REFUSAL || reason == REASON_NONE;
}

INLINE void count_reason(__u32 ifindex, __u32 direction, __u32 reason, __u32 length)
{
	struct reason_counts *counts = bpf_map_lookup_elem(&counters, &ifindex);
	if (!counts)
		return;
	reason &= REASON_COUNT - 1;
	struct count *c = direction ? &counts->by[1][reason] : &counts->by[0][reason];
	c->packets++;
	c->bytes += length;
}

INLINE void count_pair(const struct frame *f, int allowed)
{
	struct pair_key key = {
		.vm = f->vm,
		.peer_vm = f->peer_vm,
		.peer_identity = f->peer_identity,
		.rule = f->rule,
		.direction = f->rule_direction,
		.allowed = allowed,
	};
	struct count *c = bpf_map_lookup_elem(&pairs, &key), first = {1, f->length};
	if (!c) {
		if (!bpf_map_update_elem(&pairs, &key, &first, BPF_NOEXIST))
			return;
		/* another CPU was faster, or no room: then it goes to the bucket that the driver made */
		c = bpf_map_lookup_elem(&pairs, &key);
	}
	if (!c) {
		key.vm = key.peer_vm = key.peer_identity = key.rule = NOBODY;
		key.direction = key.allowed = 0;
		c = bpf_map_lookup_elem(&pairs, &key);
	}
	if (!c)
		return;
	c->packets++;
	c->bytes += f->length;
}

/* The same once more by what a staged draft says, where there is one. */
STAGE count_staged(struct __sk_buff *skb, __u32 allowed)
{
	struct frame *f = get_frame(0);
	struct staged_key key = {};
	struct count *c, first = {1, 0};
	KEEP(skb);
	if (!f)
		return 0;
	key.pair.vm = f->vm;
	key.pair.peer_vm = f->peer_vm;
	key.pair.peer_identity = f->peer_identity;
	key.pair.rule = f->rule;
	key.pair.direction = f->rule_direction;
	key.pair.allowed = allowed;
	key.staged_rule = f->staged_rule;
	key.staged = f->staged;
	first.bytes = f->length;
	c = bpf_map_lookup_elem(&staged, &key);
	if (!c) {
		if (!bpf_map_update_elem(&staged, &key, &first, BPF_NOEXIST))
			return 0;
		c = bpf_map_lookup_elem(&staged, &key);
	}
	if (!c) {
		key.pair.vm = key.pair.peer_vm = key.pair.peer_identity = key.pair.rule = NOBODY;
		key.pair.direction = key.pair.allowed = key.staged = 0;
		key.staged_rule = 0;
		c = bpf_map_lookup_elem(&staged, &key);
	}
	if (!c)
		return 0;
	c->packets++;
	c->bytes += f->length;
	return 0;
}

#endif
