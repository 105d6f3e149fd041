/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One verdict of a program. Owns nothing of connections. */
#ifndef BUCKLER_POLICY_H
#define BUCKLER_POLICY_H

#include "frame.h"

/* Look the peer up in the program of `index`; note rule and observed rule in the frame. Returns 1 for allow. */
INLINE int is_allowed(struct frame *f, __u32 index, __u8 direction, __u16 port)
{
	struct policy_key key = {
		.prefix_length = 64,
		.identity = f->peer_identity,
		.direction = direction,
		.protocol = f->protocol,
		.port = bpf_htons(port),
	};
	struct verdict *verdict;
	void *program = bpf_map_lookup_elem(&policies, &index);
	f->rule = f->observed = 0;
	f->decided = 1;
	f->rule_direction = direction;
	if (!program)
		return 0;
	verdict = bpf_map_lookup_elem(program, &key);
	if (!verdict) {
		key.identity = IDENTITY_ANY;
		verdict = bpf_map_lookup_elem(program, &key);
	}
	if (!verdict)
		return 0;
	f->rule = verdict->rule;
	f->observed = verdict->observed;
	return verdict->action == ACT_ALLOW && !verdict->until && !verdict->connections;
}

#endif
