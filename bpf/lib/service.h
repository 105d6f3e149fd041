/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What stands behind a virtual address: its ports, its members. Owns no connection and writes to no packet. */
#ifndef BUCKLER_SERVICE_H
#define BUCKLER_SERVICE_H

#include "frame.h"

INLINE const struct service *find_service(__u32 zone, const struct address *a)
{
	struct host_key key = {.zone = zone, .address = *a};
	return bpf_map_lookup_elem(&services, &key);
}

INLINE int offers(const struct service *service, __u8 protocol, __u16 port)
{
	for (int i = 0; i < MOST_PORTS; i++) {
		const struct service_port *ports = &service->port[i];
		if (i >= service->ports)
			return 0;
		if (ports->protocol == protocol && ports->first <= port && port <= ports->last)
			return 1;
	}
	return 0;
}

INLINE int has_member(const struct service *service, const struct address *a)
{
	for (int i = 0; i < MOST_MEMBERS; i++) {
		if (i >= service->members)
			return 0;
		if (same_address(&service->member[i].address, a))
			return 1;
	}
	return 0;
}

/* Note what the client knows a service by. Returns whether there is one of that number in the client's network. */
INLINE int find_virtual(struct frame *f, __u32 number)
{
	const struct host_key *where = bpf_map_lookup_elem(&service_numbers, &number);
	if (!where || where->zone != f->zone)
		return 0;
	f->virtual_address = where->address;
	return 1;
}

/*
 * May the sender still answer for this service: is it a member today, on this port? Asked of every frame on the way back, so a
 * connection ends with the membership and needs no other sign.
 */
STAGE is_served(struct __sk_buff *skb, __u32 number)
{
	struct frame *f = get_frame(0);
	const struct service *service;
	KEEP(skb);
	if (!f || !find_virtual(f, number))
		return 0;
	service = find_service(f->zone, &f->virtual_address);
	return service && service->number == number && offers(service, f->protocol, f->source_port) &&
	       has_member(service, &f->source);
}

/* Is this frame part of another way between the same two ends: a direct one, or one through (another) service? */
INLINE int is_anothers(const struct frame *f, const struct connection *c, __u32 direction)
{
	if (direction == DIR_EGRESS)
		return c->service != f->service;
	return c->service && f->opens; /* nobody opens towards a client through its virtual address */
}

/* Is the service that it went through gone for good? Numbers are nobody else's later. */
INLINE int is_deserted(const struct connection *c)
{
	__u32 number = c->service;
	return number && !bpf_map_lookup_elem(&service_numbers, &number);
}

#define OVER 1 /* it only stands in the way */

/*
 * A living connection of a service, or one that a frame to a service met. Returns 0: it is this frame's. REASON_SERVICE: it is
 * another's, direct or through another service, and the two are never mixed. OVER, REASON_NO_MEMBER: forget it.
 */
INLINE int follow_service(struct __sk_buff *skb, struct frame *f, const struct connection *c, __u32 direction)
{
	if (is_anothers(f, c, direction))
		return c->state == STATE_CLOSED || is_deserted(c) ? OVER : REASON_SERVICE;
	if (direction == DIR_EGRESS)
		return 0;
	f->service = c->service;
	return is_served(skb, c->service) ? 0 : REASON_NO_MEMBER;
}

#endif
