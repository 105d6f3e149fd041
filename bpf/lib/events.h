/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* First packets and refusals as events, within each tap's budget; what is not delivered is counted. */
#ifndef BUCKLER_EVENTS_H
#define BUCKLER_EVENTS_H

#include "rates.h"

#define EVENT_SECOND 1000000000ULL
#define WAKE_ABOVE (1 << 20)
#define KEPT_ABOVE (3 << 20) /* of 4 MiB: what is left is for rules that log */

INLINE int is_within_budget(__u32 index, __u64 now)
{
	__u32 slot = index >> 1;
	struct tap_state *state = bpf_map_lookup_elem(&tap_states, &slot);
	struct settings *s = get_settings();
	if (!state || !s)
		return 0;
	if ((__s64)(now - state->budget_window) > (__s64)EVENT_SECOND) { /* CPUs differ by a tick */
		state->budget_window = now;
		state->budget_used = 0;
	}
	if (state->budget_used >= s->events_per_second)
		return 0; /* no need to write what other CPUs read */
	return __sync_fetch_and_add(&state->budget_used, 1) < s->events_per_second;
}

/* Every first packet that a rule which logs decides: by a budget of its own, so no flood of others keeps it back. */
INLINE int is_logged(const struct frame *f, __u32 reason)
{
	return f->logged && (reason == REASON_NEW || reason == REASON_STATELESS || reason == REASON_OBSERVED ||
			     reason == REASON_POLICY || reason == REASON_RATE || reason == REASON_EXPIRED ||
			     reason == REASON_CONNECTIONS_FULL);
}

STAGE is_within_logged(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct tap_state *state;
	__u32 slot;
	KEEP(skb);
	if (!f)
		return 0;
	slot = f->index >> 1;
	state = bpf_map_lookup_elem(&tap_states, &slot);
	return state && is_due(&state->logged_until, f->now, RATE_SECOND / LOGGED_PER_SECOND, RATE_SECOND);
}

STAGE emit_event(struct __sk_buff *skb, __u32 direction, __u32 reason)
{
	struct frame *f = get_frame(0);
	struct event *e;
	__u64 waiting, wake = BPF_RB_NO_WAKEUP;
	int logged;
	KEEP(skb);
	if (!f)
		return 0;
	logged = is_logged(f, reason);
	waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	e = waiting > KEPT_ABOVE && !logged ? 0 : bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_untold(&sheds, 1);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->at = bpf_ktime_get_boot_ns();
	e->ifindex = f->ifindex;
	e->vm = f->vm;
	e->peer_vm = f->peer_vm;
	e->peer_identity = f->peer_identity;
	e->rule = f->rule;
	e->observed = f->observed;
	e->staged_rule = f->staged ? f->staged_rule : 0;
	e->length = f->length;
	e->source = f->source;
	e->destination = f->destination;
	e->source_port = f->source_port;
	e->destination_port =
		f->protocol == PROTO_ICMP || f->protocol == PROTO_ICMPV6 ? f->policy_port : f->destination_port;
	e->ethertype = f->ethertype;
	e->protocol = f->protocol;
	e->direction = direction;
	e->allowed = reason < REASON_FIRST_REFUSAL;
	e->reason = reason;
	e->staged = f->staged;
	e->flags = (logged ? EVENT_LOGGED : 0) | (f->answered == ANSWERED_REJECTION ? EVENT_ANSWERED : 0);
	e->service = f->service;
	if (waiting > WAKE_ABOVE)
		wake = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(e, wake);
	return 0;
}

#endif
