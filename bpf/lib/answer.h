/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the shield itself says to what a rule rejects: a TCP reset, else ICMP "administratively prohibited". Owns no verdict.
 *
 * It stands for the end that was asked: a VM's own packet is answered out of its tap, in the other's name; a packet towards a VM in the
 * VM's, as if it came out of its tap, from where it finds its way back. Of two ends that reject the sender's answers: the packet gets no
 * further. Nothing that answers is answered: no resets, no errors.
 */
#ifndef BUCKLER_ANSWER_H
#define BUCKLER_ANSWER_H

#include "icmp.h"
#include "rates.h"

#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define TCP_HEADER 20
#define ICMP_HEADER 8
#define LARGEST_IPV4 576  /* RFC 1812, 4.3.2.3 */
#define LARGEST_IPV6 1280 /* RFC 4443, 2.4 (c) */
#define LAST_L4 1024      /* behind so many headers nobody is answered */
#define HOPS 64

/* Two bytes first, so that the packet stands at a multiple of four. Summed up in whole pieces: behind its end it is 0. */
struct answer {
	__u8 reserved[2];
	__u8 ethernet[ETH_LENGTH];
	__u8 packet[LARGEST_IPV6 + 8];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer);
} answers SEC(".maps");

INLINE struct answer *get_answer(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&answers, &zero);
}

/* RFC 1122, 3.2.2; RFC 4443, 2.4 (e): of ICMP only what asks. */
INLINE int is_answerable_icmp(const struct frame *f)
{
	if (f->protocol == PROTO_ICMPV6)
		return f->icmp_type >= 128 && f->icmp_type != 137;
	return f->icmp_type == 8 || f->icmp_type == 13 || f->icmp_type == 15 || f->icmp_type == 17;
}

/* RFC 1812, 4.3.2.7: a source that is no single host. Groups and loopback never come this far. */
INLINE int is_nobody(const struct address *a)
{
	return is_unspecified(a) || (is_mapped(a) && (a->bytes[12] == 0 || a->bytes[12] >= 240));
}

/* Does this refused frame get an answer? In a VM's name only once it speaks here itself: else it would seem to live here. */
STAGE may_answer(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct tap_state *state;
	__u32 slot;
	KEEP(skb);
	if (!f)
		return 0;
	slot = f->index >> 1;
	if (!f->rejected || !f->version || f->fragment || f->group || (f->destination_mac[0] & 1) || f->l4 > LAST_L4 ||
	    is_nobody(&f->source))
		return 0;
	if (f->protocol == PROTO_TCP && (f->tcp_flags & TCP_RST))
		return 0;
	if ((f->protocol == PROTO_ICMP || f->protocol == PROTO_ICMPV6) && !is_answerable_icmp(f))
		return 0;
	state = bpf_map_lookup_elem(&tap_states, &slot);
	if (!state || (direction == DIR_INGRESS && !state->spoke))
		return 0;
	return is_due(direction ? &state->answered_until[1] : &state->answered_until[0], f->now,
		      RATE_SECOND / ANSWERS_PER_SECOND, RATE_SECOND);
}

/* Both bounds seen by Linux 6.1: each in the register that a helper gets, and neither made one with the other by clang. */
INLINE int is_between(__u32 *length, __u32 least, __u32 most)
{
	asm volatile("" : "+r"(*length));
	if (*length < least)
		return 0;
	asm volatile("" : "+r"(*length));
	return *length <= most;
}

INLINE void put16(__u8 *to, __u32 value)
{
	to[0] = value >> 8;
	to[1] = value;
}

INLINE void put32(__u8 *to, __u32 value)
{
	put16(to, value >> 16);
	put16(to + 2, value);
}

INLINE __u16 fold(__u64 sum)
{
	UNROLL
	for (int i = 0; i < 4; i++)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

INLINE __u64 sum_up(const __u8 *from, __u32 size)
{
	return (__u32)bpf_csum_diff(0, 0, (__be32 *)from, size, 0);
}

/* The Ethernet header, everything behind it empty. */
INLINE void begin_answer(struct answer *a, const struct frame *f)
{
	for (int i = 0; i < sizeof(a->packet) / 8; i++)
		((volatile __u64 *)a->packet)[i] = 0; /* clang would call memset */
	__builtin_memcpy(a->ethernet, f->source_mac, 6);
	__builtin_memcpy(a->ethernet + 6, f->destination_mac, 6);
	put16(a->ethernet + 12, f->ethertype);
}

/* The IP header of an answer of `size` bytes behind it; returns the sum over what counts as its transport's header. */
INLINE __u64 put_ip(struct answer *a, const struct frame *f, __u32 size, __u32 protocol)
{
	__u8 *h = a->packet;
	if (f->version == 4) {
		h[0] = 0x45;
		h[1] = protocol == PROTO_ICMP ? 0xc0 : 0; /* RFC 1812, 4.3.2.5: internetwork control */
		put16(h + 2, IPV4_HEADER + size);
		h[6] = 0x40;
		h[8] = HOPS;
		h[9] = protocol;
		__builtin_memcpy(h + 12, f->destination.bytes + 12, 4);
		__builtin_memcpy(h + 16, f->source.bytes + 12, 4);
		*(__u16 *)(h + 10) = fold(sum_up(h, IPV4_HEADER));
		return sum_up(h + 12, 8) + bpf_htons(protocol) + bpf_htons(size);
	}
	h[0] = 0x60;
	put16(h + 4, size);
	h[6] = protocol;
	h[7] = HOPS;
	__builtin_memcpy(h + 8, &f->destination, 16);
	__builtin_memcpy(h + 24, &f->source, 16);
	return sum_up(h + 8, 32) + bpf_htons(protocol) + bpf_htons(size);
}

/* RFC 9293, 3.10.7.1: what a closed port says. Returns the frame's length. */
STAGE write_reset(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct answer *a = get_answer();
	__u32 taken;
	__u64 sum;
	__u8 *h;
	KEEP(skb);
	if (!f || !a)
		return 0;
	begin_answer(a, f);
	sum = put_ip(a, f, TCP_HEADER, PROTO_TCP);
	h = a->packet + (f->version == 4 ? IPV4_HEADER : IPV6_HEADER);
	put16(h, f->destination_port);
	put16(h + 2, f->source_port);
	h[12] = TCP_HEADER / 4 << 4;
	h[13] = TCP_RST;
	if (f->tcp_flags & TCP_ACK) {
		put32(h + 4, f->acknowledgement);
	} else {
		taken = f->payload + (f->tcp_flags & TCP_SYN ? 1 : 0) + (f->tcp_flags & TCP_FIN ? 1 : 0);
		put32(h + 8, f->sequence + taken);
		h[13] |= TCP_ACK;
	}
	*(__u16 *)(h + 16) = fold(sum + sum_up(h, TCP_HEADER));
	return ETH_LENGTH + (f->version == 4 ? IPV4_HEADER : IPV6_HEADER) + TCP_HEADER;
}

/* Type 3 code 13 or type 1 code 1, with as much of the packet as may be. Returns the frame's length. */
STAGE write_prohibited(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct answer *a = get_answer();
	__u32 header, quoted, most;
	__u64 sum;
	__u8 *h;
	if (!f || !a)
		return 0;
	header = f->version == 4 ? IPV4_HEADER : IPV6_HEADER;
	most = (f->version == 4 ? LARGEST_IPV4 : LARGEST_IPV6) - ICMP_HEADER - header;
	quoted = f->l4 + f->l4_length - ETH_LENGTH;
	if (quoted > most)
		quoted = most;
	begin_answer(a, f);
	h = a->packet + header;
	if (!is_between(&quoted, IPV4_HEADER, LARGEST_IPV6 - ICMP_HEADER - IPV6_HEADER))
		return 0;
	if (bpf_skb_load_bytes(skb, ETH_LENGTH, h + ICMP_HEADER, quoted))
		return 0;
	sum = put_ip(a, f, ICMP_HEADER + quoted, f->version == 4 ? PROTO_ICMP : PROTO_ICMPV6);
	if (f->version == 4)
		sum = 0; /* no pseudo header in its sum */
	h[0] = f->version == 4 ? 3 : 1;
	h[1] = f->version == 4 ? 13 : 1;
	*(__u16 *)(h + 2) = fold(sum + sum_up(h, 512) + sum_up(h + 512, 512) + sum_up(h + 1024, 216));
	return ETH_LENGTH + header + ICMP_HEADER + quoted;
}

/*
 * Turn the refused frame into the answer and send a copy; the frame itself is dropped. What the sender left to others is
 * taken away first: cutting by the change of length, the check sum by pulling its place out of the frame.
 */
STAGE send_answer(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	struct answer *a = get_answer();
	__u32 length, pulled;
	if (!f || !a || f->l4 > LAST_L4)
		return 0;
	if (f->service && direction == DIR_EGRESS)
		f->destination = f->virtual_address; /* in whose name else: the VM knows no member */
	length = f->protocol == PROTO_TCP ? write_reset(skb) : write_prohibited(skb);
	pulled = f->l4 + 2;
	if (!length || bpf_skb_change_tail(skb, pulled + ETH_LENGTH + IPV6_HEADER, 0) ||
	    bpf_skb_adjust_room(skb, -(__s32)pulled, BPF_ADJ_ROOM_MAC, 0) || bpf_skb_change_tail(skb, length, 0))
		return 0;
	if (!is_between(&length, ETH_LENGTH + IPV4_HEADER, ETH_LENGTH + LARGEST_IPV6))
		return 0;
	if (bpf_skb_store_bytes(skb, 0, a->ethernet, length, 0))
		return 0;
	if (direction == DIR_INGRESS) {
		skb->mark = MARK_ANSWER;
		bpf_clone_redirect(skb, f->ifindex, BPF_F_INGRESS);
		return 0;
	}
	f->answering = f->ifindex; /* it passes the other hook of this tap before the call returns */
	bpf_clone_redirect(skb, f->ifindex, 0);
	f->answering = 0;
	return 0;
}

#endif
