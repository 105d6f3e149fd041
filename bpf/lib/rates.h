/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Buckets: how much of something may come at once, and how soon again. Owns the buckets of rules that limit new connections. */
#ifndef BUCKLER_RATES_H
#define BUCKLER_RATES_H

#include "frame.h"

#define RATE_SECOND 1000000000ULL

/* One more of what comes `each` ns apart, but up to `span` ns ahead of its time? `due` is when the next one would come. */
INLINE int is_due(__u64 *due, __u64 now, __u64 each, __u64 span)
{
	for (int i = 0; i < 4; i++) {
		__u64 seen = *(volatile __u64 *)due;
		__u64 start = seen > now ? seen : now;
		if (start - now + each > span)
			return 0;
		if (__sync_val_compare_and_swap(due, seen, start + each) == seen)
			return 1;
	}
	return 0; /* other CPUs were faster each time */
}

/* Count a new connection against the rule that allows it. Returns 0, or REASON_RATE: beyond it, or no room to count in. */
STAGE take_rate(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct rate_key key = {.direction = direction};
	struct rate *rate, first = {};
	__u64 span, each;
	KEEP(skb);
	if (!f)
		return REASON_RATE;
	if (!f->connections)
		return 0;
	key.slot = f->index >> 1;
	key.rule = f->rule;
	span = f->within * RATE_SECOND;
	each = span / f->connections;
	rate = bpf_map_lookup_elem(&rates, &key);
	if (!rate) {
		bpf_map_update_elem(&rates, &key, &first, BPF_NOEXIST);
		rate = bpf_map_lookup_elem(&rates, &key);
	}
	return rate && is_due(&rate->due, f->now, each ? each : 1, span) ? 0 : REASON_RATE;
}

#endif
