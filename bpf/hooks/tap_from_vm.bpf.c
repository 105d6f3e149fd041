/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Attach point: tc ingress of a tap: what the VM sends. */
#include "../lib/tap.h"

SEC("tc")
int tap_from_vm(struct __sk_buff *skb)
{
	return judge_tap(skb, DIR_EGRESS);
}
