/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses that VMs would have, told to the agent within each tap's budget. Owns no verdict, and reads no option. */
#ifndef BUCKLER_CLAIMS_H
#define BUCKLER_CLAIMS_H

#include "frame.h"

#define CLAIM_SECOND 1000000000ULL
#define UDP_HEADER 8
#define BOOTP_CHADDR 28
#define BOOTP_HEADER 34 /* as far as the six bytes of chaddr */
#define BOOTP_REPLY 2
#define DHCPV6_REPLY 7

/* The tap's budget of this second. */
INLINE struct claim_budget *get_claim_budget(__u32 index, __u64 now)
{
	__u32 slot = index >> 1;
	struct claim_budget *budget = bpf_map_lookup_elem(&claim_budgets, &slot);
	if (budget && (__s64)(now - budget->window) > (__s64)CLAIM_SECOND) { /* CPUs meet here in any order */
		budget->window = now;
		budget->used = budget->named = 0;
	}
	return budget;
}

INLINE int may_claim(__u32 index, __u64 now)
{
	struct claim_budget *budget = get_claim_budget(index, now);
	return budget && __sync_fetch_and_add(&budget->used, 1) < CLAIMS_PER_SECOND;
}

/* Room in the ring with all but what is claimed filled in, or 0: told to nobody. */
INLINE struct claim *begin_claim(const struct frame *f, __u64 now, __u32 source)
{
	struct claim *c = bpf_ringbuf_reserve(&claims, sizeof(*c), 0);
	if (!c) {
		count_untold(&claim_sheds, 1);
		return 0;
	}
	__builtin_memset(c, 0, sizeof(*c) - MAX_CLAIM_MESSAGE);
	c->at = now;
	c->ifindex = f->ifindex;
	c->vm = f->vm;
	c->source = source;
	return c;
}

INLINE void end_claim(struct claim *c, int failed)
{
	if (failed)
		bpf_ringbuf_discard(c, BPF_RB_NO_WAKEUP);
	else
		bpf_ringbuf_submit(c, BPF_RB_NO_WAKEUP);
}

/* Which claim an answer makes: only what is meant for this VM. A broadcast answer for another one is not its business. */
INLINE int source_of_answer(struct __sk_buff *skb, const struct frame *f)
{
	struct endpoint *endpoint = get_endpoint(f->index);
	__u8 bootp[BOOTP_HEADER];
	__u8 kind;
	if (!endpoint)
		return 0;
	if (f->version == 6) { /* RFC 8415, 18.3.10: to the address that asked, which is the VM's own */
		if (f->group || bpf_skb_load_bytes(skb, f->l4 + UDP_HEADER, &kind, 1))
			return 0;
		return kind == DHCPV6_REPLY ? CLAIM_DHCPV6 : 0;
	}
	if (f->source_port != 67 || bpf_skb_load_bytes(skb, f->l4 + UDP_HEADER, bootp, BOOTP_HEADER))
		return 0;
	if (bootp[0] != BOOTP_REPLY || bootp[1] != 1 || bootp[2] != 6)
		return 0;
	return same_mac(bootp + BOOTP_CHADDR, endpoint->mac) ? CLAIM_DHCP : 0;
}

/* Copy what stands behind the UDP header, as much as there is room for. Returns 0, or not: nothing to tell. */
INLINE int copy_message(struct __sk_buff *skb, const struct frame *f, struct claim *c)
{
	__u32 size = f->l4_length;
	if (size <= UDP_HEADER)
		return 1;
	size -= UDP_HEADER + 1;
	if (size > MAX_CLAIM_MESSAGE - 1)
		size = MAX_CLAIM_MESSAGE - 1;
	/* Linux 6.1 learns no lower bound from `!= 0`: a mask and 1 say it, if clang keeps them. */
	asm volatile("" : "+r"(size));
	size = (size & (MAX_CLAIM_MESSAGE - 1)) + 1;
	c->length = size;
	return bpf_skb_load_bytes(skb, f->l4 + UDP_HEADER, c->data, size);
}

/* Copy what the claim stands on. Returns 0, or not: nothing to tell. */
INLINE int fill_claim(struct __sk_buff *skb, const struct frame *f, struct claim *c)
{
	if (c->source == CLAIM_DETECTED) {
		if (f->ethertype == ETHERTYPE_IPV6)
			return bpf_skb_load_bytes(skb, f->l4 + 8, &c->address, 16);
		c->address = f->destination;
		return 0;
	}
	c->server = f->source;
	return copy_message(skb, f, c);
}

/* `detected`: what the frame itself claims, or 0 for an answer of a DHCP server. */
STAGE emit_claim(struct __sk_buff *skb, __u32 detected)
{
	struct frame *f = get_frame(0);
	struct claim *c;
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 source;
	KEEP(skb);
	if (!f)
		return 0;
	source = detected ? detected : source_of_answer(skb, f);
	if (!source)
		return 0;
	if (!may_claim(f->index, now)) {
		count_untold(&claim_sheds, 0);
		return 0;
	}
	c = begin_claim(f, now, source);
	if (c)
		end_claim(c, fill_claim(skb, f, c));
	return 0;
}

#endif
