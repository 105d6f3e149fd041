/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP errors: they pass when they speak of a living connection, from where they can come from. Owns no other ICMP. */
#ifndef BUCKLER_ICMP_H
#define BUCKLER_ICMP_H

#include "conntrack.h"

INLINE int is_icmp_error(const struct frame *f)
{
	if (f->protocol == PROTO_ICMP)
		return f->icmp_type == 3 || f->icmp_type == 4 || f->icmp_type == 11 || f->icmp_type == 12;
	return f->protocol == PROTO_ICMPV6 && f->icmp_type < 128;
}

INLINE int is_icmp_redirect(const struct frame *f)
{
	return f->protocol == PROTO_ICMP ? f->icmp_type == 5 : f->protocol == PROTO_ICMPV6 && f->icmp_type == 137;
}

/* RFC 5927, 4.1: the quoted sequence number must be of a byte that is under way. */
INLINE int is_under_way(const struct frame *quoted, const struct tcp_side *sender)
{
	if (!(sender->known & KNOWN_END))
		return 0;
	return !is_after(quoted->sequence, sender->end) && sender->end - quoted->sequence <= 1 << 20;
}

/* May somebody other than the remote end complain: a router of the network or of the world, never another VM? */
INLINE int may_complain(const struct frame *f, const struct connection_key *key)
{
	if (same_address(&f->source, &key->remote))
		return 1;
	return !f->peer_vm || (f->peer_flags & ADDR_ROUTER);
}

STAGE judge_icmp_error(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0), *quoted = get_frame(1);
	struct draft *draft = get_draft();
	struct connection *c;
	__u32 slot;
	void *table, *half_open;
	int refused;
	if (!f || !quoted || !draft)
		return REASON_MALFORMED;
	slot = f->index >> 1;
	table = bpf_map_lookup_elem(&established, &slot);
	half_open = bpf_map_lookup_elem(&waiting, &slot);
	if (!table || !half_open)
		return REASON_UNCONFIGURED;
	if (f->fragment)
		return REASON_ICMP_ERROR;
	refused = f->version == 4 ? parse_ipv4(skb, 1, f->l4 + 8) : parse_ipv6(skb, 1, f->l4 + 8);
	if (refused || quoted->fragment == FRAGMENT_LATER || parse_transport(skb, 1))
		return REASON_ICMP_ERROR;
	if ((quoted->protocol == PROTO_ICMP || quoted->protocol == PROTO_ICMPV6) && !is_echo(quoted))
		return REASON_ICMP_ERROR; /* RFC 1122, 3.2.2: none about an error; its missing ports are no echo's */
	/* the quoted packet went the other way, and the error goes back to who sent it */
	if (!same_address(&f->destination, &quoted->source))
		return REASON_ICMP_ERROR;
	if (direction == DIR_EGRESS && !same_address(&f->source, &quoted->destination))
		return REASON_ICMP_ERROR;
	set_key(&draft->key, quoted, !direction);
	c = bpf_map_lookup_elem(table, &draft->key);
	if (!c)
		c = find_waiting(half_open, &draft->key, hash_key(&draft->key));
	if (!c || c->expires < f->now || (c->stamp == f->stamp && c->until <= f->now))
		return REASON_ICMP_ERROR;
	refused = resolve_peer(skb, direction == DIR_EGRESS);
	if (refused)
		return refused;
	if (direction == DIR_INGRESS && !may_complain(f, &draft->key))
		return REASON_ICMP_ERROR;
	if (quoted->protocol == PROTO_TCP && !is_under_way(quoted, direction == DIR_INGRESS ? &c->tcp[0] : &c->tcp[1]))
		return REASON_ICMP_ERROR;
	if (c->service && (direction == DIR_EGRESS || !find_virtual(f, c->service)))
		return REASON_ICMP_ERROR; /* a client knows the virtual address alone: what it says of a member is made up */
	f->service = c->service;
	if (c->stamp != f->stamp) /* its own next packet says whether it lives on; until then nothing speaks for it */
		return REASON_ICMP_ERROR;
	take_decision(f, c);
	return REASON_RELATED;
}

#endif
