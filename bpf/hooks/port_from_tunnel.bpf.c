/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Attach point: tc ingress of a bridge port towards the pool's other hosts. */
#include "../lib/port.h"

SEC("tc")
int port_from_tunnel(struct __sk_buff *skb)
{
	return judge_port(skb, PORT_TUNNEL);
}
