/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a guest leaves to others through its virtio-net header, and what is done after the frame was judged. Owns no header.
 *
 * A check sum (NEEDS_CSUM): two bytes written wherever the guest said. So the place must be that of the transport header that
 * was judged, else a port or an address would change behind the shield (measured). A frame to be cut: TCP's segments and
 * those of UDP repeat the judged header; fragments (GSO_UDP) must be cut where fragments may be, else they overlap.
 *
 * The one thing here that is read from the kernel's own structures: libbpf puts in the offsets (CO-RE) when it loads.
 */
#ifndef BUCKLER_OFFLOAD_H
#define BUCKLER_OFFLOAD_H

#include <bpf/bpf_core_read.h>
#include "frame.h"

#define SUM_LEFT_TO_OTHERS 3 /* CHECKSUM_PARTIAL */
#define TCP_SUM 16
#define UDP_SUM 6

#define CUT_TCP                                                                                                        \
	(1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 19) /* SKB_GSO_TCPV4, DODGY, ECN, FIXEDID, TCPV6, ACCECN */
#define CUT_FRAGMENTS (1 << 16)                                /* SKB_GSO_UDP */
#define CUT_UDP (1 << 17 | 1 << 1)                             /* SKB_GSO_UDP_L4, DODGY */

struct sk_buff___offload {
	__u8 ip_summed : 2;
	__u16 csum_start, csum_offset;
	__u16 mac_header;
	__u32 end;
	unsigned char *head;
} __attribute__((preserve_access_index));

struct skb_shared_info___offload {
	unsigned int gso_type;
} __attribute__((preserve_access_index));

/* SKB_GSO_*; all bits when the kernel does not tell. */
INLINE __u32 read_cut(const struct sk_buff___offload *raw)
{
	const struct skb_shared_info___offload *shared;
	unsigned char *head = 0;
	__u32 end = 0, type = 0;
	if (bpf_core_read(&head, sizeof(head), &raw->head) || bpf_core_read(&end, sizeof(end), &raw->end))
		return 0xffffffff;
	shared = (void *)(head + end);
	return bpf_core_read(&type, sizeof(type), &shared->gso_type) ? 0xffffffff : type;
}

/* Note what will be done to the frame. */
INLINE void read_offload(struct __sk_buff *skb, struct frame *f)
{
	const struct sk_buff___offload *raw = (void *)skb;
	__u16 start = 0, mac = 0, offset = 0;
	f->cut_size = skb->gso_size;
	if (f->cut_size)
		f->cut = read_cut(raw);
	if (BPF_CORE_READ_BITFIELD_PROBED(raw, ip_summed) != SUM_LEFT_TO_OTHERS)
		return;
	f->summed = 1;
	if (bpf_core_read(&start, sizeof(start), &raw->csum_start) ||
	    bpf_core_read(&mac, sizeof(mac), &raw->mac_header) ||
	    bpf_core_read(&offset, sizeof(offset), &raw->csum_offset))
		return; /* sum_start 0 is the place of no transport header */
	f->sum_start = start - mac;
	f->sum_offset = offset;
}

/* Does it stand where the judged header has its check sum? Only those of TCP and UDP are left to others. */
INLINE int is_sum_in_place(const struct frame *f)
{
	if (!f->summed)
		return 1;
	return !f->fragment && f->sum_start == f->l4 &&
	       f->sum_offset == (f->protocol == PROTO_TCP ? TCP_SUM : UDP_SUM) &&
	       (f->protocol == PROTO_TCP || f->protocol == PROTO_UDP);
}

/* Will the pieces carry what was judged? */
INLINE int is_cut_in_place(const struct frame *f)
{
	if (!f->cut_size)
		return 1;
	if (f->fragment)
		return 0;
	if (f->protocol == PROTO_TCP)
		return !(f->cut & ~CUT_TCP);
	if (f->protocol != PROTO_UDP)
		return 0;
	return !(f->cut & ~CUT_UDP) || (!(f->cut & ~(CUT_FRAGMENTS | 1 << 1)) && !(f->cut_size & 7));
}

INLINE int is_offload_harmless(const struct frame *f)
{
	return is_sum_in_place(f) && is_cut_in_place(f);
}

#endif
