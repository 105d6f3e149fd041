"""Running a hook on a packet without an interface to carry it (BPF_PROG_TEST_RUN). For tests and measurements."""

from __future__ import annotations

import ctypes as c
import struct

import msgspec

from buckler.drivers.ebpf import libbpf
from buckler.drivers.ebpf.kernel import Kernel

_CONTEXT_SIZE = 192
_MARK_AT, _IFINDEX_AT = 8, 40
"""Offsets in struct __sk_buff."""


class Outcome(msgspec.Struct, frozen=True):
    """``passed``: the hook let the packet go on. ``mark``: skb->mark afterwards. ``nanoseconds``: mean of the repetitions."""

    passed: bool
    mark: int
    nanoseconds: int


def run_hook(kernel: Kernel, hook: str, packet: bytes, ifindex: int, *, repeat: int = 1) -> Outcome:
    """Judge an Ethernet frame as if it crossed ``ifindex``, a real interface of the current network namespace."""
    context = bytearray(_CONTEXT_SIZE)
    struct.pack_into("<I", context, _IFINDEX_AT, ifindex)
    ctx_in = (c.c_char * _CONTEXT_SIZE).from_buffer(context)
    ctx_out = c.create_string_buffer(_CONTEXT_SIZE)
    data = c.create_string_buffer(packet, len(packet))
    out = c.create_string_buffer(len(packet) + 256)
    options = libbpf.TestRunOptions(
        sz=c.sizeof(libbpf.TestRunOptions),
        data_in=c.cast(data, c.c_void_p),
        data_size_in=len(packet),
        data_out=c.cast(out, c.c_void_p),
        data_size_out=len(out),
        ctx_in=c.cast(ctx_in, c.c_void_p),
        ctx_size_in=_CONTEXT_SIZE,
        ctx_out=c.cast(ctx_out, c.c_void_p),
        ctx_size_out=_CONTEXT_SIZE,
        repeat=repeat,
    )
    libbpf.check(libbpf.prog_test_run(kernel.hook(hook), c.byref(options)), f"run {hook}")
    (mark,) = struct.unpack_from("<I", ctx_out.raw, _MARK_AT)
    return Outcome(options.retval == 0xFFFFFFFF, mark, options.duration)
