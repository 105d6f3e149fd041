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

#endif
