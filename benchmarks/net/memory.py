"""What the shield's maps take of the kernel's memory, as the kernel itself accounts for them (memlock in fdinfo)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from benchmarks.net.filters import install_shield
from benchmarks.net.world import World
from tests.component.ground import WEB, Host, Vm, both_ways, open_veth, run

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.kernel import MAPS, Kernel
from buckler.drivers.ebpf.table import Table

_OUTER = ("established", "waiting", "fragments")
_FILLED = 10_000


class Memory(msgspec.Struct, frozen=True):
    """KiB. ``host``: all maps of an empty host; ``known_addresses_100k``, ``policy_100k``: what those add; ``vm``: a tap."""

    host: float
    vm: float
    per_10k_connections: float
    policy_100k: float
    known_addresses_100k: float


def memory_of_maps(kernel: Kernel) -> int:
    """Bytes of the maps that every host has, whatever stands on it."""
    return _sum(kernel[name].fd for name in MAPS)


def memory_of_tap(kernel: Kernel, ifindex: int) -> int:
    """Bytes of the maps that one tap has for itself."""
    index = layout.U32.unpack(kernel["tap_index"].get(layout.U32.pack(ifindex)) or bytes(4))[0]
    total = 0
    for outer in _OUTER:
        number = kernel[outer].get(layout.U32.pack(index >> 1)) or bytes(4)
        table = Table(libbpf.check(libbpf.map_fd_by_id(layout.U32.unpack(number)[0]), outer))
        total += _memlock(table.fd)
        table.close()
    return total


def measure_memory(world: World) -> Memory:
    """Fill an empty host by and by. What a tap adds to the maps of the host is counted as the tap's."""
    host = install_shield(world, 100_000)
    with world.host.entered():
        with_book = memory_of_maps(host.kernel)
        host.book.delete_addresses(frozenset(host.book.addresses()))
        before = memory_of_maps(host.kernel)
        wire = open_veth("measured")
        vm = Vm(77, WEB)
        host.admit(wire.ifindex, vm, host.put_program(*both_ways(0, 17, prefix=16)))
        added = memory_of_maps(host.kernel) - before + memory_of_tap(host.kernel, wire.ifindex)
        filled = _fill_connections(host, wire.ifindex)
        wire.close()
        run("ip link del measured")
    return Memory(
        host=_kib(before),
        vm=_kib(added),
        per_10k_connections=_kib(filled),
        policy_100k=_kib(_largest_program(host.kernel)),
        known_addresses_100k=_kib(with_book - before),
    )


def _fill_connections(host: Host, ifindex: int) -> int:
    before = memory_of_tap(host.kernel, ifindex)
    table = host.shield._inner("established", _slot(host.kernel, ifindex))
    if table is None:
        raise RuntimeError("the tap has lost its connections")
    value = bytes(layout.CONNECTION.size)
    keys = (layout.CONNECTION_KEY.pack(bytes(16), number.to_bytes(16, "big"), 1, 1, 17, 0) for number in range(_FILLED))
    table.put_all(dict.fromkeys(keys, value))
    table.close()
    return memory_of_tap(host.kernel, ifindex) - before


def _slot(kernel: Kernel, ifindex: int) -> int:
    return int(layout.U32.unpack(kernel["tap_index"].get(layout.U32.pack(ifindex)) or bytes(4))[0]) >> 1


def _largest_program(kernel: Kernel) -> int:
    largest = 0
    for path in kernel.pins.policies.iterdir():
        fd = libbpf.get_pinned(path)
        largest = max(largest, _memlock(fd))
        os.close(fd)
    return largest


def _sum(fds: Iterable[int]) -> int:
    return sum(_memlock(fd) for fd in fds)


def _memlock(fd: int) -> int:
    found = re.search(r"^memlock:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.M)
    if not found:
        raise RuntimeError("this kernel does not tell what a map takes")
    return int(found.group(1))


def _kib(size: int) -> float:
    return round(size / 1024, 1)
