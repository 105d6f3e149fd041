/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What one frame says, in per-CPU scratch, and comparing addresses. Owns no verdict. */
#ifndef BUCKLER_FRAME_H
#define BUCKLER_FRAME_H

#include <stddef.h>
#include "maps.h"

#define ETH_LENGTH 14
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_RARP 0x8035
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV6 0x86dd

#define PROTO_ICMP 1
#define PROTO_IGMP 2
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define PROTO_SCTP 132

#define FRAGMENT_FIRST 1
#define FRAGMENT_LATER 2

#define ANSWERED_REJECTION 1 /* of frame.answered: how it will be */
#define ANSWERED_RESOLUTION 2

#define RECALLED_DENIED 1 /* of frame.recalled */
#define RECALLED_ALLOWED 2
#define RECALLED_REJECTED 3

struct frame {
	struct address source;
	struct address destination;
	__u32 length, l4, l4_length; /* l4: offset; l4_length: bytes behind it by the IP header */
	__u32 fragment_id, fragment_offset;
	__u32 sequence, acknowledgement;
	__u32 ifindex, index, zone;
	__u32 vm, peer_identity, peer_vm, peer_flags;
	__u32 rule, observed;
	__u16 source_port, destination_port;
	__u16 policy_port, window;
	__u16 ethertype, payload;
	__u8 protocol, version, fragment, hop_limit;
	__u8 tcp_flags, icmp_type, icmp_code, group;
	__u8 destination_mac[6], source_mac[6]; /* as one: 12 bytes, aligned (see parse_ethernet) */
	__u8 decided, rule_direction, more_fragments, claim;
	__u8 opens, plain, missed,
		recalled; /* opens: a SYN, an INIT; plain, missed, recalled: see plain.h and known.h */
	__u64 stamp, now;
	__u32 book;
	__u32 service; /* whose virtual address the VM speaks with: `destination` or `source` is its member then */
	__u32 sum_start;
	__u16 sum_offset, summed;
	__u32 cut, cut_size;                     /* see offload.h */
	__u8 staged, logged, rejected, answered; /* of the verdict; staged_rule is that of `staged`, if not 0 */
	__u8 tolerated; /* part of a connection that policy refuses and observe mode lets live */
	__u8 mode;
	__u8 served; /* its network has virtual addresses */
	/* From here on nothing is cleared for a new frame (FRAME_KEEPS). What decides writes these: */
	__u64 until;
	__u32 staged_rule, connections, within;
	__u32 answering;                /* not 0 while the shield's own answer goes out of that tap, see answer.h */
	struct address virtual_address; /* both of `service`, once it is known, see virtual.h */
	__u8 member_mac[6];
};

#define FRAME_KEEPS offsetof(struct frame, until)

/* [0] the frame, [1] the packet inside an ICMP error. tc runs with soft interrupts off: nobody else writes meanwhile. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct frame);
} scratch SEC(".maps");

/* The time as of this CPU's last tick: asking for it costs more than all that is done with it. */
struct clock {
	__u64 tick, now;
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct clock);
} clocks SEC(".maps");

INLINE __u64 get_now(void)
{
	__u32 zero = 0;
	struct clock *clock = bpf_map_lookup_elem(&clocks, &zero);
	__u64 tick = bpf_jiffies64();
	if (!clock)
		return bpf_ktime_get_boot_ns();
	if (clock->tick != tick) {
		clock->now = bpf_ktime_get_boot_ns();
		clock->tick = tick;
	}
	return clock->now;
}

#define LEAST_FRAME 64 /* padded by hardware, with a tag that was taken off since */

INLINE struct frame *get_frame(__u32 which)
{
	return bpf_map_lookup_elem(&scratch, &which);
}

INLINE int same_mac(const __u8 *a, const __u8 *b)
{
	__u32 difference = 0;
	for (int i = 0; i < 6; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* The same for two that lie in maps, in fewer steps: there, unlike on the stack, a word may begin anywhere. */
INLINE __u64 read_mac(const __u8 *mac)
{
	return (__u64) * (const __u16 *)(mac + 4) << 32 | *(const __u32 *)mac;
}

INLINE int is_zero_mac(const __u8 *mac)
{
	return !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

INLINE int same_address(const struct address *a, const struct address *b)
{
	__u64 x[2], y[2];
	__builtin_memcpy(x, a, 16);
	__builtin_memcpy(y, b, 16);
	return x[0] == y[0] && x[1] == y[1];
}

INLINE void set_ipv4(struct address *to, const __u8 *ipv4)
{
	__builtin_memset(to->bytes, 0, 10);
	to->bytes[10] = to->bytes[11] = 0xff;
	__builtin_memcpy(to->bytes + 12, ipv4, 4);
}

INLINE int is_mapped(const struct address *a)
{
	__u64 high;
	__u32 middle;
	__builtin_memcpy(&high, a->bytes, 8);
	__builtin_memcpy(&middle, a->bytes + 8, 4);
	return high == 0 && middle == bpf_htonl(0xffff);
}

/* 0.0.0.0 or :: */
INLINE int is_unspecified(const struct address *a)
{
	__u64 high, low;
	__builtin_memcpy(&high, a->bytes, 8);
	__builtin_memcpy(&low, a->bytes + 8, 8);
	return high == 0 && (low == 0 || low == bpf_cpu_to_be64(0x0000ffff00000000ULL));
}

INLINE int is_link_local(const struct address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

/* A multicast or broadcast address of either family. */
INLINE int is_group(const struct address *a)
{
	if (!is_mapped(a))
		return a->bytes[0] == 0xff;
	return (a->bytes[12] & 0xf0) == 0xe0 || (a->bytes[12] & a->bytes[13] & a->bytes[14] & a->bytes[15]) == 0xff;
}

INLINE int is_loopback(const struct address *a)
{
	__u64 high, low;
	if (is_mapped(a))
		return a->bytes[12] == 127;
	__builtin_memcpy(&high, a->bytes, 8);
	__builtin_memcpy(&low, a->bytes + 8, 8);
	return high == 0 && low == bpf_cpu_to_be64(1);
}

/* Control traffic passes without a rule, so nothing may ride behind it. */
INLINE int has_trailer(const struct __sk_buff *skb, __u32 end)
{
	return skb->len > LEAST_FRAME && skb->len > end;
}

INLINE int owns_address(__u32 index, const struct address *a)
{
	struct own_key key = {.index = index, .address = *a};
	return bpf_map_lookup_elem(&own_addresses, &key) != 0;
}

#endif
