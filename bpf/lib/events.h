/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* First packets and refusals as events, within each tap's budget; what is not delivered is counted. */
#ifndef BUCKLER_EVENTS_H
#define BUCKLER_EVENTS_H

#include "frame.h"

#define EVENT_SECOND 1000000000ULL
#define WAKE_ABOVE (1 << 20)

INLINE void count_shed(int lost)
{
	__u32 zero = 0;
	struct shed *shed = bpf_map_lookup_elem(&sheds, &zero);
	if (!shed)
		return;
	if (lost)
		shed->lost++;
	else
		shed->suppressed++;
}

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

STAGE emit_event(struct __sk_buff *skb, __u32 direction, __u32 reason)
{
	struct frame *f = get_frame(0);
	struct event *e;
	__u64 wake = BPF_RB_NO_WAKEUP;
	KEEP(skb);
	if (!f)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		count_shed(1);
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
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > WAKE_ABOVE)
		wake = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(e, wake);
	return 0;
}

#endif
