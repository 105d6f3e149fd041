"""What one packet costs in the program itself (BPF_PROG_TEST_RUN), without an interface. Owns no traffic."""

from __future__ import annotations

import statistics

import msgspec
from benchmarks.net.filters import install_shield
from benchmarks.net.world import RECEIVER, RECEIVER_MAC, SENDER_MAC, SENDERS, World
from tests import packets
from tests.component.ground import Host

from buckler.drivers.ebpf.hook_run import run_hook

_REPEAT, _SAMPLES = 100_000, 7
_STRANGER = "10.20.3.7"


class Cost(msgspec.Struct, frozen=True):
    """Nanoseconds. Established, denied: means of 100,000 runs, the median of 7 such. The others: each packet once, medians."""

    established_from_vm: int
    established_to_vm: int
    established_udp: int
    denied: int
    denied_not_remembered: int
    allowed_new_port: int
    allowed_new_peer_and_port: int


class _Asked:
    def __init__(self, host: Host, ifindex: int) -> None:
        self._host, self._ifindex = host, ifindex

    def once(self, frame: bytes, *, to_vm: bool, repeat: int = 1) -> int:
        hook = "tap_to_vm" if to_vm else "tap_from_vm"
        return run_hook(self._host.kernel, hook, frame, self._ifindex, repeat=repeat).nanoseconds

    def again(self, frame: bytes, *, to_vm: bool) -> int:
        return round(statistics.median(self.once(frame, to_vm=to_vm, repeat=_REPEAT) for _ in range(_SAMPLES)))

    def each(self, frames: list[bytes]) -> int:
        return round(statistics.median(self.once(frame, to_vm=True) for frame in frames))


def measure_cost(world: World, entries: int, distinct: int) -> Cost:
    """Measure the receiver's shield with ``entries`` of policy and 100,000 known addresses."""
    host = install_shield(world, entries)
    with world.host.entered():
        asked = _Asked(host, world.tap_b.ifindex)
        for port in range(1000):
            asked.once(_tcp(packets.SYN, 3000 + port, 1000, 0), to_vm=True)
            asked.once(_tcp(packets.SYN | packets.ACK, 3000 + port, 5000, 1001, back=True), to_vm=False)
            asked.once(_tcp(packets.ACK, 3000 + port, 1001, 5001), to_vm=True)
        for _ in range(2):
            asked.once(_udp(3000), to_vm=True)
            asked.once(_udp(3000, back=True), to_vm=False)
        return Cost(
            established_from_vm=asked.again(_tcp(packets.ACK, 3500, 5001, 1001, back=True), to_vm=False),
            established_to_vm=asked.again(_tcp(packets.ACK, 3500, 1001, 5001), to_vm=True),
            established_udp=asked.again(_udp(3000), to_vm=True),
            denied=asked.again(_tcp(packets.SYN, 3000, 1000, 0, sender=_STRANGER), to_vm=True),
            denied_not_remembered=asked.again(_sctp(), to_vm=True),
            allowed_new_port=asked.each([_udp(4000 + number) for number in range(distinct)]),
            allowed_new_peer_and_port=asked.each(
                [_udp(4000 + number, SENDERS[1 + number % 63], 6000 + number) for number in range(distinct)]
            ),
        )


def _udp(port: int, sender: str = SENDERS[0], to: int = 5008, *, back: bool = False) -> bytes:
    ends = (SENDER_MAC, sender), (RECEIVER_MAC, RECEIVER)
    return packets.ip_frame(*(ends[::-1] if back else ends), 17, packets.udp(*((to, port) if back else (port, to))))


def _tcp(
    flags: int, port: int, sequence: int, acknowledgement: int, *, back: bool = False, sender: str = SENDERS[0]
) -> bytes:
    ends = (SENDER_MAC, sender), (RECEIVER_MAC, RECEIVER)
    ports = (5002, port) if back else (port, 5002)
    segment = packets.tcp(*ports, flags, sequence=sequence, acknowledgement=acknowledgement)
    return packets.ip_frame(*(ends[::-1] if back else ends), 6, segment)


def _sctp() -> bytes:
    """An INIT that no entry allows; only decisions about TCP and UDP are remembered."""
    chunk = packets.udp(3000, 5008)[:4] + bytes(8) + b"\1\0\0\x14" + bytes(16)
    return packets.ip_frame((SENDER_MAC, _STRANGER), (RECEIVER_MAC, RECEIVER), 132, chunk)
