/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sequence tracking of TCP (RFC 9293, RFC 5961): whether a reset may be believed and when a connection ends.
 * Segments outside the window pass (the receiver discards them) but teach nothing; resets outside it do not pass. */
#ifndef BUCKLER_TCP_H
#define BUCKLER_TCP_H

#include "parse.h"

#define KNOWN_END 1
#define KNOWN_ACKED 2
#define FINISHED 1
#define FINISH_ACKED 2
#define MAX_SCALE 14

/* The window scale option of a SYN (RFC 7323, 2.2); 0 without one. */
STAGE find_tcp_scale(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	__u32 at = 0;
	for (int i = 0; i < 40; i++) {
		__u8 option[3] = {};
		if (at >= length || bpf_skb_load_bytes(skb, offset + at, option, 1) || option[0] == 0)
			return 0;
		if (option[0] == 1) {
			at++;
			continue;
		}
		if (bpf_skb_load_bytes(skb, offset + at, option, 2) || option[1] < 2)
			return 0;
		if (option[0] == 3) {
			if (bpf_skb_load_bytes(skb, offset + at, option, 3))
				return 0;
			return option[2] > MAX_SCALE ? MAX_SCALE : option[2];
		}
		at += option[1];
	}
	return 0;
}

INLINE int is_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

/* Is this reset one that its sender could have sent: within what it sent and the other side has not acknowledged? */
INLINE int is_true_reset(const struct frame *f, const struct tcp_side *sender, const struct tcp_side *receiver)
{
	if (receiver->known & KNOWN_ACKED) {
		if (is_after(receiver->acked, f->sequence) || is_after(f->sequence, receiver->edge))
			return 0; /* beyond its window nothing is under way, whatever a forged segment taught of `end` */
		return sender->known & KNOWN_END ? !is_after(f->sequence, sender->end) : f->sequence == receiver->acked;
	}
	/* nothing acknowledged yet: the refusal of a SYN names exactly what it refuses */
	return (f->tcp_flags & TCP_ACK) && (receiver->known & KNOWN_END) && f->acknowledgement == receiver->end;
}

INLINE int is_in_window(const struct frame *f, const struct tcp_side *sender, const struct tcp_side *receiver,
			__u32 end)
{
	if ((receiver->known & KNOWN_ACKED) && is_after(f->sequence, receiver->edge + 1))
		return 0;
	if ((receiver->known & KNOWN_ACKED) && is_after(receiver->acked - (1 << 16), end))
		return 0;
	if ((f->tcp_flags & TCP_ACK) && (receiver->known & KNOWN_END) && is_after(f->acknowledgement, receiver->end))
		return 0;
	return 1;
}

INLINE void learn_segment(const struct frame *f, struct tcp_side *sender, struct tcp_side *receiver, __u32 end)
{
	__u32 scale = f->tcp_flags & TCP_SYN ? 0 : sender->scale;
	if (!(sender->known & KNOWN_END) || is_after(end, sender->end))
		sender->end = end;
	sender->known |= KNOWN_END;
	if (f->tcp_flags & TCP_FIN)
		sender->finished |= FINISHED;
	if (!(f->tcp_flags & TCP_ACK))
		return;
	__u32 edge = f->acknowledgement + ((__u32)f->window << scale);
	if (!(sender->known & KNOWN_ACKED) || is_after(f->acknowledgement, sender->acked))
		sender->acked = f->acknowledgement;
	if (!(sender->known & KNOWN_ACKED) || is_after(edge, sender->edge))
		sender->edge = edge;
	sender->known |= KNOWN_ACKED;
	if ((receiver->finished & FINISHED) && (receiver->known & KNOWN_END) && f->acknowledgement == receiver->end)
		receiver->finished |= FINISH_ACKED;
}

/* Follow one segment. Returns 0, or REASON_TCP_RESET for a reset that must not pass. */
INLINE int track_tcp(struct __sk_buff *skb, struct frame *f, struct connection *c, __u32 direction)
{
	struct tcp_side *sender = direction ? &c->tcp[1] : &c->tcp[0];
	struct tcp_side *receiver = direction ? &c->tcp[0] : &c->tcp[1];
	__u32 end = f->sequence + f->payload + (f->tcp_flags & TCP_SYN ? 1 : 0) + (f->tcp_flags & TCP_FIN ? 1 : 0);
	if (f->tcp_flags & TCP_RST) {
		if (!is_true_reset(f, sender, receiver))
			return REASON_TCP_RESET;
		/* RFC 5961, 3.2: only the exact next byte resets; any other is answered with a challenge */
		if (!(receiver->known & KNOWN_ACKED) || f->sequence == receiver->acked)
			c->state = STATE_CLOSED;
		return 0;
	}
	/* Handed over by another host: the VM's own segments teach first, so nobody outside makes up a window for it. */
	if (direction == DIR_INGRESS && c->state >= STATE_ESTABLISHED && !receiver->known)
		return 0;
	if (!is_in_window(f, sender, receiver, end))
		return 0;
	if ((f->tcp_flags & TCP_SYN) && c->state >= STATE_ESTABLISHED)
		return 0;
	if (f->tcp_flags & TCP_SYN)
		sender->scale = find_tcp_scale(skb, f->l4 + 20, f->l4_length - 20 - f->payload);
	learn_segment(f, sender, receiver, end);
	if ((sender->finished & receiver->finished & FINISH_ACKED) && c->state != STATE_CLOSED)
		c->state = STATE_CLOSED;
	else if ((sender->finished | receiver->finished) && c->state == STATE_ESTABLISHED)
		c->state = STATE_CLOSING;
	return 0;
}

#endif
