/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* DNS between a VM and its network's resolvers, copied to the agent as it passed. Owns no verdict, and reads no message. */
#ifndef BUCKLER_DNS_H
#define BUCKLER_DNS_H

#include "claims.h"
#include "peer.h"

#define DNS_PORT 53

INLINE int is_dns(const struct frame *f, __u32 direction)
{
	return f->protocol == PROTO_UDP && !f->fragment && !f->group &&
	       (direction == DIR_EGRESS ? f->destination_port : f->source_port) == DNS_PORT;
}

/* A share of its own in the tap's budget: who asks much loses answers, and no lease. */
INLINE int may_tell_dns(__u32 index, __u64 now)
{
	struct claim_budget *budget = get_claim_budget(index, now);
	return budget && __sync_fetch_and_add(&budget->named, 1) < DNS_PER_SECOND;
}

/* A message that does not fit whole is none: what is cut off could be what makes it another. */
STAGE emit_dns(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct claim *c;
	__u64 now = bpf_ktime_get_boot_ns();
	KEEP(skb);
	if (!f || !(flags_of(f->zone, direction == DIR_EGRESS ? &f->destination : &f->source) & ADDR_RESOLVER))
		return 0;
	if (f->l4_length > UDP_HEADER + MAX_CLAIM_MESSAGE || !may_tell_dns(f->index, now)) {
		count_untold(&claim_sheds, 0);
		return 0;
	}
	c = begin_claim(f, now, direction == DIR_EGRESS ? CLAIM_DNS_QUERY : CLAIM_DNS_ANSWER);
	if (!c)
		return 0;
	c->address = direction == DIR_EGRESS ? f->source : f->destination;
	c->server = direction == DIR_EGRESS ? f->destination : f->source;
	c->port = direction == DIR_EGRESS ? f->source_port : f->destination_port;
	end_claim(c, copy_message(skb, f, c));
	return 0;
}

#endif
