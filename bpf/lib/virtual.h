/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Virtual addresses of services: which member a client's frame goes to, and what is written into frames of either way. Owns no verdict of
 * policy: that is the chosen member's, asked as if the client had spoken with it directly.
 *
 * A flow's member is the one with which a connection through this service lives; for a new flow the highest score of a keyed hash over
 * ends and member (rendezvous hashing): who comes or goes among the members moves no other one's flows.
 */
#ifndef BUCKLER_VIRTUAL_H
#define BUCKLER_VIRTUAL_H

#include "answer.h"
#include "conntrack.h"
#include "known.h"
#include "nd.h"

#define IPV4_SUM 10
#define IPV4_SOURCE 12
#define IPV4_DESTINATION 16
#define IPV6_SOURCE 8
#define IPV6_DESTINATION 24
#define ADDRESS_WORDS 4

/* Locally administered; the last three bytes are the service's number. */
INLINE void write_virtual_mac(__u8 *mac, __u32 number)
{
	mac[0] = 0x02;
	mac[1] = 0x62;
	mac[2] = 0x6b;
	mac[3] = number >> 16;
	mac[4] = number >> 8;
	mac[5] = number;
}

INLINE __u64 mix(__u64 x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdULL;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

/* The flow's member among all but the client itself, or -1. The key in hand has all but the remote address. */
STAGE choose_member(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	const struct service *service;
	const struct secret *secret;
	const __u32 *words;
	__u64 sum, best = 0;
	__u32 zero = 0;
	int chosen = -1;
	KEEP(skb);
	if (!f || !draft)
		return -1;
	service = find_service(f->zone, &f->virtual_address);
	secret = bpf_map_lookup_elem(&secrets, &zero);
	if (!service || !secret)
		return -1;
	words = (const __u32 *)&draft->key;
	sum = secret->words[KEY_WORDS];
	UNROLL
	for (int i = ADDRESS_WORDS; i < KEY_WORDS; i++)
		sum += secret->words[i] * words[i];
	for (int i = 0; i < MOST_MEMBERS; i++) {
		const struct service_member *member = &service->member[i];
		const __u32 *address = (const __u32 *)&member->address;
		__u64 score = sum;
		if (i >= service->members)
			break;
		if (read_mac(member->mac) == read_mac(f->source_mac))
			continue;
		UNROLL
		for (int word = 0; word < ADDRESS_WORDS; word++)
			score += secret->words[word] * address[word];
		score = mix(score) | 1;
		if (score > best) {
			best = score;
			chosen = i;
		}
	}
	return chosen;
}

#define NOBODY_THERE (-1)

/* Take a member as the remote end of the frame and of the key in hand. 0: the place is the client's own; NOBODY_THERE: it is behind all. */
STAGE take_member(struct __sk_buff *skb, __u32 place)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	const struct service *service;
	KEEP(skb);
	if (!f || !draft || place >= MOST_MEMBERS)
		return NOBODY_THERE;
	service = find_service(f->zone, &f->virtual_address);
	if (!service || place >= service->members)
		return NOBODY_THERE;
	if (read_mac(service->member[place].mac) == read_mac(f->source_mac))
		return 0;
	f->destination = draft->key.remote = service->member[place].address;
	__builtin_memcpy(f->member_mac, service->member[place].mac, 6);
	return 1;
}

/* Does a connection through this service live with the member in hand? */
STAGE is_living(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	const struct connection *c;
	void *table, *half_open;
	__u32 slot;
	KEEP(skb);
	if (!f || !draft)
		return 0;
	slot = f->index >> 1;
	table = bpf_map_lookup_elem(&established, &slot);
	half_open = bpf_map_lookup_elem(&waiting, &slot);
	if (!table || !half_open)
		return 0;
	c = bpf_map_lookup_elem(table, &draft->key);
	if (!c)
		c = find_waiting(half_open, &draft->key, hash_key(&draft->key));
	return c && c->service == f->service && c->expires >= f->now;
}

#define GO_ON 0
#define FOUND 1
#define NOT_FOUND 2

STAGE try_member(struct __sk_buff *skb, __u32 place)
{
	int there = take_member(skb, place);
	if (there < 0)
		return NOT_FOUND;
	return there && is_living(skb) ? FOUND : GO_ON;
}

/* Find the member with which this flow lives; where it is a new one, the chosen one stays in hand. */
STAGE find_member(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct draft *draft = get_draft();
	int chosen;
	if (!f || !draft)
		return REASON_NO_MEMBER;
	set_key(&draft->key, f, DIR_EGRESS);
	chosen = choose_member(skb);
	if (chosen < 0)
		return REASON_NO_MEMBER;
	if (try_member(skb, chosen) == FOUND)
		return 0;
	for (int i = 0; i < MOST_MEMBERS; i++) {
		int found = i == chosen ? GO_ON : try_member(skb, i);
		if (found == FOUND)
			return 0;
		if (found == NOT_FOUND)
			break;
	}
	return take_member(skb, chosen) > 0 ? 0 : REASON_NO_MEMBER;
}

/* A frame from the VM whose headers were read: is it for a virtual address? Then its destination is a member from here on. */
STAGE enter_service(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	const struct service *service;
	int refused;
	if (!f)
		return REASON_MALFORMED;
	service = find_service(f->zone, &f->destination);
	if (!service)
		return 0;
	if (f->destination_mac[0] & 1)
		return REASON_MARTIAN;
	f->service = service->number;
	f->virtual_address = f->destination;
	if (f->fragment || is_dhcp_port(f->destination_port) || !offers(service, f->protocol, f->destination_port))
		refused = REASON_SERVICE;
	else
		refused = find_member(skb);
	if (refused && !owns_address(f->index, &f->source))
		return REASON_SPOOFED_ADDRESS; /* what goes on is asked for its source as every frame is */
	return refused;
}

/* One IPv4 address in the header at `header` for another: in its sum and, where there is one, in its transport's. */
INLINE int swap_ipv4(struct __sk_buff *skb, __u32 header, __u32 at, const struct address *from,
		     const struct address *to, __u32 sum_at, __u64 flags)
{
	__u32 old, new;
	__builtin_memcpy(&old, from->bytes + 12, 4);
	__builtin_memcpy(&new, to->bytes + 12, 4);
	if (sum_at && bpf_l4_csum_replace(skb, sum_at, old, new, flags | 4))
		return 1;
	return bpf_l3_csum_replace(skb, header + IPV4_SUM, old, new, 4) ||
	       bpf_skb_store_bytes(skb, header + at, &new, 4, 0);
}

INLINE int swap_ipv6(struct __sk_buff *skb, __u32 header, __u32 at, const struct address *from,
		     const struct address *to, __u32 sum_at, __u64 flags)
{
	__s64 difference = bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0);
	if (sum_at && bpf_l4_csum_replace(skb, sum_at, 0, difference, flags))
		return 1;
	return bpf_skb_store_bytes(skb, header + at, to, 16, 0);
}

/* Where the transport's sum stands that covers addresses too; 0: there is none (SCTP; what follows a first fragment). */
INLINE __u32 get_sum_place(const struct frame *f, __u64 *flags)
{
	*flags = BPF_F_PSEUDO_HDR;
	if (f->fragment == FRAGMENT_LATER)
		return 0;
	if (f->protocol == PROTO_TCP)
		return f->l4 + TCP_SUM;
	*flags |= BPF_F_MARK_MANGLED_0; /* a sum that is left out stays left out */
	return f->protocol == PROTO_UDP ? f->l4 + UDP_SUM : 0;
}

INLINE int write_source_mac(struct __sk_buff *skb, __u32 number)
{
	__u8 mac[6];
	write_virtual_mac(mac, number);
	return bpf_skb_store_bytes(skb, 6, mac, 6, 0);
}

/* Write what was judged into the frame: the member's ends towards it, the virtual ones towards the client. Not 0: it failed. */
STAGE translate(struct __sk_buff *skb, __u32 direction)
{
	struct frame *f = get_frame(0);
	__u64 flags;
	__u32 sum_at;
	if (!f)
		return 1;
	sum_at = get_sum_place(f, &flags);
	if (direction == DIR_EGRESS) {
		if (f->version == 4 ? swap_ipv4(skb, ETH_LENGTH, IPV4_DESTINATION, &f->virtual_address, &f->destination,
						sum_at, flags)
				    : swap_ipv6(skb, ETH_LENGTH, IPV6_DESTINATION, &f->virtual_address, &f->destination,
						sum_at, flags))
			return 1;
		return bpf_skb_store_bytes(skb, 0, f->member_mac, 6, 0);
	}
	if (f->version == 4 ? swap_ipv4(skb, ETH_LENGTH, IPV4_SOURCE, &f->source, &f->virtual_address, sum_at, flags)
			    : swap_ipv6(skb, ETH_LENGTH, IPV6_SOURCE, &f->source, &f->virtual_address, sum_at, flags))
		return 1;
	return write_source_mac(skb, f->service);
}

/*
 * An ICMP error towards the client: what it quotes was sent to the virtual address, and what the member complains of comes from
 * there. The sum within the quoted transport stays the member's: no receiver asks it, and mostly it is cut off.
 */
STAGE translate_error(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0), *quoted = get_frame(1);
	__u32 inner, sum_at;
	int of_member;
	if (!f || !quoted)
		return 1;
	inner = f->l4 + ICMP_HEADER;
	sum_at = f->version == 4 ? 0 : f->l4 + 2; /* in IPv4 the header's own sum makes up for its address */
	of_member = same_address(&f->source, &quoted->destination);
	if (f->version == 4) {
		if (swap_ipv4(skb, inner, IPV4_DESTINATION, &quoted->destination, &f->virtual_address, 0, 0))
			return 1;
		if (of_member && swap_ipv4(skb, ETH_LENGTH, IPV4_SOURCE, &f->source, &f->virtual_address, 0, 0))
			return 1;
	} else {
		if (swap_ipv6(skb, inner, IPV6_DESTINATION, &quoted->destination, &f->virtual_address, sum_at, 0))
			return 1;
		if (of_member &&
		    swap_ipv6(skb, ETH_LENGTH, IPV6_SOURCE, &f->source, &f->virtual_address, sum_at, BPF_F_PSEUDO_HDR))
			return 1;
	}
	return of_member ? write_source_mac(skb, f->service) : 0;
}

/* Whom does the VM ask for? Returns 0 if it asks for nobody. */
INLINE int read_question(struct __sk_buff *skb, struct frame *f)
{
	__u8 operation[2];
	if (f->ethertype == ETHERTYPE_ARP) {
		f->virtual_address = f->destination;
		return !bpf_skb_load_bytes(skb, ETH_LENGTH + 6, operation, 2) && operation[1] == ARP_REQUEST;
	}
	return f->icmp_type == ND_NEIGHBOUR_SOLICITATION &&
	       !bpf_skb_load_bytes(skb, f->l4 + 8, &f->virtual_address, 16);
}

/*
 * Does the VM ask who has a virtual address, be it to see whether it is free? Then the shield answers, and nobody else is asked.
 * Nothing else of that kind goes to one: there is nobody.
 */
STAGE resolve_virtual(struct __sk_buff *skb, __u32 reason)
{
	struct frame *f = get_frame(0);
	const struct service *service = 0;
	if (!f || (reason >= REASON_FIRST_REFUSAL && !f->claim) || (f->ethertype != ETHERTYPE_ARP && !is_nd(f)))
		return reason;
	if (read_question(skb, f))
		service = find_service(f->zone, &f->virtual_address);
	if (!service)
		return find_service(f->zone, &f->destination) ? REASON_SERVICE : reason;
	f->service = service->number;
	f->answered = ANSWERED_RESOLUTION;
	return f->claim ? reason : REASON_RESOLVED;
}

/* RFC 826; to a probe (RFC 5227, 2.1.1) it says that the address is taken. Returns the frame's length. */
INLINE __u32 write_arp_reply(struct answer *a, const struct frame *f)
{
	__u8 *h = a->packet;
	put16(h, 1);
	put16(h + 2, ETHERTYPE_IPV4);
	put16(h + 4, 6 << 8 | 4);
	put16(h + 6, ARP_REPLY);
	write_virtual_mac(h + 8, f->service);
	__builtin_memcpy(h + 14, f->virtual_address.bytes + 12, 4);
	__builtin_memcpy(h + 18, f->source_mac, 6);
	__builtin_memcpy(h + 24, f->source.bytes + 12, 4);
	return ETH_LENGTH + sizeof(struct arp);
}

#define ADVERTISEMENT 32 /* with one option */
#define SOLICITED 0x40
#define OVERRIDE 0x20

/* RFC 4861, 7.2.4; to who only detects (::) for all nodes. Returns the frame's length. */
INLINE __u32 write_advertisement(struct answer *a, struct frame *f)
{
	__u8 *h = a->packet + IPV6_HEADER;
	int detects = is_unspecified(&f->source);
	__u64 sum;
	f->destination = f->virtual_address;
	if (detects) {
		__builtin_memset(&f->source, 0, sizeof(f->source));
		f->source.bytes[0] = 0xff;
		f->source.bytes[1] = 0x02;
		f->source.bytes[15] = 1;
	}
	sum = put_ip(a, f, ADVERTISEMENT, PROTO_ICMPV6);
	a->packet[7] = 255;
	h[0] = ND_NEIGHBOUR_ADVERTISEMENT;
	h[4] = detects ? OVERRIDE : SOLICITED | OVERRIDE;
	__builtin_memcpy(h + 8, &f->virtual_address, 16);
	h[24] = ND_OPTION_TARGET_MAC;
	h[25] = 1;
	write_virtual_mac(h + 26, f->service);
	*(__u16 *)(h + 2) = fold(sum + sum_up(h, ADVERTISEMENT));
	return ETH_LENGTH + IPV6_HEADER + ADVERTISEMENT;
}

/* Send out of the VM's tap what it asked for; the question itself is dropped. Nothing of it was left to others. */
STAGE send_resolution(struct __sk_buff *skb)
{
	struct frame *f = get_frame(0);
	struct answer *a = get_answer();
	__u32 length;
	if (!f || !a)
		return 0;
	begin_answer(a, f);
	write_virtual_mac(a->ethernet + 6, f->service);
	length = f->ethertype == ETHERTYPE_ARP ? write_arp_reply(a, f) : write_advertisement(a, f);
	if (bpf_skb_change_tail(skb, length, 0) || bpf_skb_store_bytes(skb, 0, a->ethernet, length, 0))
		return 0;
	f->answering = f->ifindex;
	bpf_clone_redirect(skb, f->ifindex, 0);
	f->answering = 0;
	return 0;
}

#endif
