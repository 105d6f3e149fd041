/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Attach point: tc ingress of a bridge port towards the world. */
#include "../lib/port.h"

SEC("tc")
int port_from_outside(struct __sk_buff *skb)
{
	return judge_port(skb, PORT_OUTSIDE);
}
