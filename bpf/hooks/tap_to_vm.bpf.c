/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Attach point: tc egress of a tap: what reaches the VM. */
#include "../lib/tap.h"

SEC("tc")
int tap_to_vm(struct __sk_buff *skb)
{
	return judge_tap(skb, DIR_INGRESS);
}
