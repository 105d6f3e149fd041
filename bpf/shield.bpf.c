/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* All hooks as one object, so that they share their maps. */
#include "hooks/tap_from_vm.bpf.c"
#include "hooks/tap_to_vm.bpf.c"
#include "hooks/port_from_outside.bpf.c"
#include "hooks/port_from_tunnel.bpf.c"

char dual_license[] SEC("license") = "Dual BSD/GPL";
