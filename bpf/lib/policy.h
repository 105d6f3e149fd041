/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One verdict of a program and the terms of it. Owns nothing of connections. */
#ifndef BUCKLER_POLICY_H
#define BUCKLER_POLICY_H

#include "frame.h"

#define NEVER (~0ULL)
#define LAST_SECOND 18000000000ULL /* above it, ns since 1970 do not fit */

/* When an allowance until some second of the wall clock ends, in boot time: 0, so always past, where the clock is not believed. */
INLINE __u64 get_deadline(__u64 until)
{
	const struct settings *s;
	__u64 clock;
	if (!until)
		return NEVER;
	s = get_settings();
	clock = s ? *(volatile __u64 *)&s->clock : 0;
	if (!clock || until > LAST_SECOND || until * 1000000000ULL <= clock)
		return 0;
	return until * 1000000000ULL - clock;
}

INLINE void clear_decision(struct frame *f)
{
	f->rule = f->observed = f->staged_rule = f->connections = 0;
	f->until = NEVER;
	f->staged = f->logged = f->rejected = 0;
}

/*
 * Look the peer up in the program of `index`; note in the frame what decided and on which terms.
 * Returns 0 for allow, else why not: POLICY, EXPIRED.
 */
INLINE int ask_policy(struct frame *f, __u32 index, __u8 direction, __u16 port)
{
	struct policy_key key = {
		.prefix_length = 64,
		.identity = f->peer_identity,
		.direction = direction,
		.protocol = f->protocol,
		.port = bpf_htons(port),
	};
	const struct verdict *verdict;
	void *program = bpf_map_lookup_elem(&policies, &index);
	clear_decision(f);
	f->decided = 1;
	f->rule_direction = direction;
	if (!program)
		return REASON_POLICY;
	verdict = bpf_map_lookup_elem(program, &key);
	if (!verdict) {
		key.identity = IDENTITY_ANY;
		verdict = bpf_map_lookup_elem(program, &key);
	}
	if (!verdict)
		return REASON_POLICY;
	f->rule = verdict->rule;
	f->observed = verdict->observed;
	if (verdict->flags) {
		f->staged = verdict->staged;
		f->staged_rule = verdict->staged_rule;
		f->logged = (verdict->flags & VERDICT_LOG) != 0;
		f->connections = verdict->connections;
		f->within = verdict->within;
		f->until = get_deadline(verdict->until);
	}
	f->rejected = verdict->action == ACT_REJECT;
	if (verdict->action != ACT_ALLOW)
		return REASON_POLICY;
	return f->until > f->now ? 0 : REASON_EXPIRED;
}

#endif
