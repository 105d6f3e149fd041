/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Connections of one tap: found, judged again after a change, promoted, ended. Owns no policy: it asks for verdicts. */
#ifndef BUCKLER_CONNTRACK_H
#define BUCKLER_CONNTRACK_H

#include "decisions.h"
#include "peer.h"
#include "policy.h"
#include "rates.h"
#include "service.h"
#include "tcp.h"
#include "waiting.h"

#define SECOND 1000000000ULL

/* Layouts that no map names in its BTF (inner maps, the ring): here so that the driver's can be checked against them. */
struct told {
	struct policy_key policy_key;
	struct verdict verdict;
	struct fragment_key fragment_key;
	struct fragment fragment;
	struct half_open_set half_open_set;
	struct event event;
	struct claim claim;
};

/* The key in hand and a connection being made: too big for the 512 bytes of stack that all stages share. */
struct draft {
	struct connection_key key;
	__u32 hash; /* of the key, for the half-open ones */
	struct connection connection;
	struct told told;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct draft);
} drafts SEC(".maps");

INLINE struct draft *get_draft(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&drafts, &zero);
}

INLINE void set_key(struct connection_key *key, const struct frame *f, __u32 direction)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->remote = direction == DIR_EGRESS ? f->destination : f->source;
	key->local = direction == DIR_EGRESS ? f->source : f->destination;
	key->remote_port = direction == DIR_EGRESS ? f->destination_port : f->source_port;
	key->local_port = direction == DIR_EGRESS ? f->source_port : f->destination_port;
	key->protocol = f->protocol;
	key->asked = is_echo(f) && is_echo_reply(f) != (direction == DIR_INGRESS);
}

INLINE __u64 get_timeout(__u8 protocol, __u8 state)
{
	if (protocol == PROTO_TCP) {
		if (state == STATE_ESTABLISHED)
			return 21600 * SECOND;
		return state == STATE_CLOSED ? 10 * SECOND : state == STATE_CLOSING ? 120 * SECOND : 60 * SECOND;
	}
	if (protocol == PROTO_ICMP || protocol == PROTO_ICMPV6)
		return 30 * SECOND;
	return state == STATE_ESTABLISHED ? 180 * SECOND : 30 * SECOND;
}

/* Has the VM been without room within the last second? Then new connections are refused at their first packet. */
INLINE int is_full(__u32 index, __u64 now)
{
	__u32 slot = index >> 1;
	struct tap_state *state = bpf_map_lookup_elem(&tap_states, &slot);
	return !state || state->full_until > now;
}

INLINE void note_full(__u32 index, __u64 now)
{
	__u32 slot = index >> 1;
	struct tap_state *state = bpf_map_lookup_elem(&tap_states, &slot);
	if (state)
		state->full_until = now + SECOND;
}

/* Note in a connection what decided about it and on which terms. */
INLINE void note_decision(const struct frame *f, struct connection *c)
{
	c->rule = f->rule;
	c->observed = f->observed;
	c->staged_rule = f->staged_rule;
	c->staged = f->staged;
	c->until = c->flags & CONNECTION_OBSERVED ? NEVER : f->until;
}

/*
 * Judge a connection of an older stamp by today's policy and today's owner of the remote address.
 * Returns 0 when it lives on, else why not. The frame's peer must have been resolved already.
 */
INLINE int rejudge(struct frame *f, struct connection *c)
{
	int refused = ask_policy(f, f->index, c->direction, c->port);
	if (refused && f->mode != MODE_OBSERVE)
		return refused;
	c->peer_identity = f->peer_identity;
	c->peer_vm = f->peer_vm;
	c->flags = refused ? CONNECTION_OBSERVED : 0;
	note_decision(f, c);
	c->stamp = f->stamp;
	return 0;
}

INLINE void take_decision(struct frame *f, const struct connection *c)
{
	f->decided = 1;
	f->rule = c->rule;
	f->observed = c->observed;
	f->tolerated = c->flags & CONNECTION_OBSERVED;
	f->staged = c->staged;
	if (c->staged)
		f->staged_rule = c->staged_rule;
	f->peer_identity = c->peer_identity;
	f->peer_vm = c->peer_vm;
	f->rule_direction = c->direction;
}

/* Whose the other end is and what policy says of it. Returns 0, or what refuses: INFRA, POLICY, EXPIRED. */
INLINE int decide(struct __sk_buff *skb, struct frame *f, __u32 direction)
{
	int refused;
	if (f->recalled)
		return f->recalled == RECALLED_ALLOWED ? 0 : REASON_POLICY;
	refused = resolve_peer(skb, direction == DIR_EGRESS);
	if (refused)
		return refused;
	refused = ask_policy(f, f->index, direction, f->policy_port);
	if (f->plain)
		remember_decision(f, direction, refused);
	return refused;
}

/* Put the connection in hand among the half-open ones. A stage of its own: its loops are verified once, not for every way here. */
STAGE put_draft(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	__u32 slot;
	void *table;
	KEEP(skb);
	if (!f || !draft)
		return 1;
	slot = f->index >> 1;
	table = bpf_map_lookup_elem(&waiting, &slot);
	return !table || put_waiting(table, &draft->key, draft->hash, &draft->connection);
}

/* A new connection: judged, then put among the half-open ones. */
STAGE open_connection(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	struct connection *c;
	int refused, late;
	if (!f || !draft)
		return REASON_MALFORMED;
	late = ((f->protocol == PROTO_TCP || f->protocol == PROTO_SCTP) && !f->opens) ||
	       (is_echo(f) && is_echo_reply(f));
	if (late && f->mode != MODE_OBSERVE) /* no decision of a rule: it is not counted as one */
		return resolve_peer(skb, direction == DIR_EGRESS) ? REASON_INFRA : REASON_NO_CONNECTION;
	refused = decide(skb, f, direction);
	if (refused == REASON_INFRA || (refused && f->mode != MODE_OBSERVE))
		return refused;
	if (late)
		refused = REASON_NO_CONNECTION;
	if (is_full(f->index, f->now))
		return f->mode == MODE_OBSERVE ? REASON_OBSERVED : REASON_CONNECTIONS_FULL;
	if (!refused)
		refused = f->connections ? take_rate(skb, direction) : 0;
	if (refused && f->mode != MODE_OBSERVE)
		return refused;
	c = &draft->connection;
	__builtin_memset(c, 0, sizeof(*c));
	if (!f->missed) {
		set_key(&draft->key, f, direction);
		draft->hash = hash_key(&draft->key);
	}
	c->flags = refused ? CONNECTION_OBSERVED : 0;
	c->stamp = f->stamp; /* read before the policy: a change in between makes it old at once */
	c->created = f->now;
	c->expires = f->now + get_timeout(f->protocol, STATE_NEW);
	note_decision(f, c);
	c->peer_identity = f->peer_identity;
	c->peer_vm = f->peer_vm;
	c->port = f->policy_port;
	c->direction = direction;
	c->service = f->service;
	if (f->protocol == PROTO_TCP)
		track_tcp(skb, f, c, direction);
	if (put_draft(skb))
		return f->mode == MODE_OBSERVE ? REASON_OBSERVED : REASON_CONNECTIONS_FULL;
	return refused ? REASON_OBSERVED : REASON_NEW;
}

/* The originator spoke again after a reply: take a place among the established. */
INLINE int promote(struct frame *f, struct draft *draft, struct connection *c, void *table, void *half_open)
{
	__builtin_memcpy(&draft->connection, c, sizeof(*c));
	if (!is_still_there(half_open, &draft->key, draft->hash, c))
		return f->mode == MODE_OBSERVE ? REASON_OBSERVED : REASON_NO_CONNECTION;
	draft->connection.state = STATE_ESTABLISHED;
	draft->connection.expires = f->now + get_timeout(f->protocol, STATE_ESTABLISHED);
	if (bpf_map_update_elem(table, &draft->key, &draft->connection, BPF_ANY)) {
		note_full(f->index, f->now);
		delete_waiting(half_open, &draft->key, draft->hash);
		return REASON_CONNECTIONS_FULL;
	}
	delete_waiting(half_open, &draft->key, draft->hash);
	return REASON_ESTABLISHED;
}

/* Take away what was found. */
INLINE void forget(struct draft *draft, void *table, void *half_open, int kept)
{
	if (kept)
		bpf_map_delete_elem(table, &draft->key);
	else
		delete_waiting(half_open, &draft->key, draft->hash);
}

/* A SYN after the end, or an originator that starts over with another sequence number before it was answered. */
INLINE int is_reopening(const struct frame *f, const struct connection *c, __u32 direction)
{
	const struct tcp_side *sender = direction ? &c->tcp[1] : &c->tcp[0];
	if (f->protocol != PROTO_TCP || !f->opens)
		return 0;
	if (c->state == STATE_CLOSED)
		return 1;
	return c->state <= STATE_REPLIED && direction == c->direction && f->sequence + 1 != sender->end;
}

/*
 * The end that did not open this connection opens now, with the same ports: by policy, in its own direction. Where that
 * is allowed (both began at once; SCTP's restart) the connection is the other's from now on and falls with its rule.
 */
STAGE turn_connection(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	int refused;
	KEEP(skb);
	if (!f || resolve_peer(skb, direction == DIR_EGRESS))
		return REASON_INFRA;
	refused = ask_policy(f, f->index, direction, f->policy_port);
	return refused ? refused : take_rate(skb, direction);
}

/* Behind a SYN stands nothing but its answer; the bare ACK of an end that knows an older connection is one (RFC 9293, 3.5.1). */
INLINE int is_out_of_course(const struct frame *f, const struct connection *c, int against)
{
	if (f->protocol != PROTO_TCP || c->state != STATE_NEW || (f->tcp_flags & TCP_RST))
		return 0;
	if (against)
		return !(f->tcp_flags & TCP_SYN) && (f->payload || (f->tcp_flags & TCP_FIN));
	return !f->opens;
}

INLINE int is_answer(const struct frame *f)
{
	return f->protocol != PROTO_TCP || (f->tcp_flags & TCP_SYN) || f->mode == MODE_OBSERVE;
}

/* Write it at most once a second: the line is shared by all CPUs. */
INLINE void keep_alive(const struct frame *f, struct connection *c)
{
	__u64 expires = f->now + get_timeout(f->protocol, c->state);
	if (expires - c->expires + SECOND > 2 * SECOND)
		c->expires = expires;
}

/* Judge a frame of a unicast flow: part of a connection, or the first of a new one. */
STAGE judge_flow(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	struct connection *c;
	__u32 slot;
	void *table, *half_open;
	int refused, kept = 1, half, against, over, turned = 0, observed = 0;
	__u8 before;
	if (!f || !draft)
		return REASON_MALFORMED;
	if (f->missed)
		return open_connection(skb, direction);
	slot = f->index >> 1;
	table = bpf_map_lookup_elem(&established, &slot);
	half_open = bpf_map_lookup_elem(&waiting, &slot);
	if (!table || !half_open)
		return REASON_UNCONFIGURED;
	set_key(&draft->key, f, direction);
	c = bpf_map_lookup_elem(table, &draft->key);
	if (!c) {
		draft->hash = hash_key(&draft->key);
		c = find_waiting(half_open, &draft->key, draft->hash);
		kept = 0;
	}
	if (!c)
		return open_connection(skb, direction);
	half = !kept || c->state <= STATE_REPLIED; /* an imported one is kept from the first */
	over = c->expires < f->now;
	if ((c->service | f->service) && !over) {
		refused = follow_service(skb, f, c, direction);
		if (refused == REASON_SERVICE)
			return refused;
		over = refused;
	}
	if (over || is_reopening(f, c, direction)) {
		forget(draft, table, half_open, kept);
		return over == REASON_NO_MEMBER ? over : open_connection(skb, direction);
	}
	if (c->stamp != f->stamp) {
		refused = resolve_peer(skb, direction == DIR_EGRESS);
		if (!refused)
			refused = rejudge(f, c);
		if (refused) {
			forget(draft, table, half_open, kept);
			return refused;
		}
	}
	if (c->until <= f->now) { /* only an enforced one has an end */
		take_decision(f, c);
		forget(draft, table, half_open, kept);
		return f->mode == MODE_OBSERVE ? REASON_OBSERVED : REASON_EXPIRED;
	}
	take_decision(f, c);
	against = direction != c->direction;
	before = c->state;
	if (f->fragment != FRAGMENT_LATER) {
		refused = 0;
		if (f->opens && against)
			refused = f->protocol == PROTO_TCP && !half ? REASON_NO_CONNECTION
								    : turn_connection(skb, direction);
		else if (is_out_of_course(f, c, against))
			refused = REASON_NO_CONNECTION;
		turned = f->opens && against && !refused;
		observed = refused && refused < REASON_FIRST_HARD && f->mode == MODE_OBSERVE;
		if (refused && !observed)
			return refused;
	}
	if (f->protocol == PROTO_TCP && f->fragment != FRAGMENT_LATER) {
		refused = track_tcp(skb, f, c, direction);
		if (refused)
			return refused;
	}
	if (turned) {
		c->direction = direction;
		c->port = f->policy_port;
		c->flags = 0;
		note_decision(f, c);
		if (f->protocol == PROTO_TCP)
			c->state = STATE_REPLIED;
		return REASON_NEW;
	}
	if (half && c->state == STATE_NEW && against && is_answer(f))
		c->spared = c->state = STATE_REPLIED;
	else if (half && c->state == STATE_REPLIED && !against && !(f->tcp_flags & TCP_SYN)) {
		if (!kept)
			return promote(f, draft, c, table, half_open);
		c->state = STATE_ESTABLISHED;
	}
	if (before != STATE_CLOSED)
		keep_alive(f, c);
	return observed ? REASON_OBSERVED : REASON_ESTABLISHED;
}

/* Judge a frame that makes no connection (a group's, an ICMP message's) by the policy alone. */
STAGE judge_stateless(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	int refused;
	if (!f)
		return REASON_MALFORMED;
	refused = resolve_peer(skb, direction == DIR_EGRESS);
	if (refused)
		return refused;
	if (f->group) {
		/* a pool VM's own address behind a group's MAC: neither unicast nor a group */
		if (direction == DIR_EGRESS && f->peer_vm)
			return REASON_MARTIAN;
		f->peer_identity = IDENTITY_GROUP;
	}
	refused = ask_policy(f, f->index, direction, f->policy_port);
	if (!refused)
		refused = take_rate(skb, direction); /* each of them is a first packet */
	if (!refused)
		return REASON_STATELESS;
	return f->mode == MODE_OBSERVE ? REASON_OBSERVED : refused;
}

#endif
