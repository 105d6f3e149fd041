"""Observed against desired → the steps between, in the order that never opens too early. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from buckler.agent.desired import Desired, Observed
from buckler.model.ids import Digest, VmNumber
from buckler.model.shield import Address, AddressKey, BridgePort, GuardState, MacKey, Tap

_K = TypeVar("_K")
_V = TypeVar("_V")


class CloseGuard(msgspec.Struct, frozen=True):
    """Make the guard stand, and take from it every port that must not (yet) be open."""

    state: GuardState


class SetLearning(msgspec.Struct, frozen=True):
    ifindex: int
    learning: bool


class PutProgram(msgspec.Struct, frozen=True):
    digest: Digest


class PutAddresses(msgspec.Struct, frozen=True):
    entries: dict[AddressKey, Address]


class PutMacs(msgspec.Struct, frozen=True):
    entries: dict[MacKey, VmNumber]


class PutBridgePort(msgspec.Struct, frozen=True):
    port: BridgePort


class PutTap(msgspec.Struct, frozen=True):
    tap: Tap


class Rejudge(msgspec.Struct, frozen=True):
    """Let every established connection be judged again."""


class DeleteTap(msgspec.Struct, frozen=True):
    ifindex: int


class DeleteBridgePort(msgspec.Struct, frozen=True):
    ifindex: int


class DeleteMacs(msgspec.Struct, frozen=True):
    keys: frozenset[MacKey]


class DeleteAddresses(msgspec.Struct, frozen=True):
    keys: frozenset[AddressKey]


class DeleteProgram(msgspec.Struct, frozen=True):
    digest: Digest


class OpenGuard(msgspec.Struct, frozen=True):
    """Admit the ports whose shields were read back as they should be."""

    state: GuardState


Step = (
    CloseGuard
    | SetLearning
    | PutProgram
    | PutAddresses
    | PutMacs
    | PutBridgePort
    | PutTap
    | Rejudge
    | DeleteTap
    | DeleteBridgePort
    | DeleteMacs
    | DeleteAddresses
    | DeleteProgram
    | OpenGuard
)


def plan(observed: Observed, desired: Desired) -> tuple[Step, ...]:
    """No step when nothing differs; each step alone leaves everything at least as closed as it should be."""
    return (*_closing(observed, desired), *_changing(observed, desired), *_opening(observed, desired))


def normal(tap: Tap) -> Tap:
    """A tap as both sides write it: addresses are a set."""
    return msgspec.structs.replace(tap, addresses=tuple(sorted(set(tap.addresses))), mac=tap.mac.lower())


def _closing(observed: Observed, desired: Desired) -> Iterator[Step]:
    closed = msgspec.structs.replace(desired.guard, ports=_still_open(observed, desired))
    if closed != observed.guard:
        yield CloseGuard(closed)
    for index, learning in sorted(desired.learning.items()):
        if not learning and observed.learning.get(index, True):
            yield SetLearning(index, learning=False)


def _still_open(observed: Observed, desired: Desired) -> frozenset[tuple[int, str]]:
    if observed.guard is not None:
        standing = {*observed.taps, *observed.bridge_ports}
        kept = {pair for pair in observed.guard.ports if pair[0] in standing}
    else:
        taps = {
            index
            for index, tap in observed.taps.items()
            if index in desired.taps and normal(tap) == normal(desired.taps[index])
        }
        ports = {index for index, port in observed.bridge_ports.items() if desired.bridge_ports.get(index) == port}
        kept = {pair for pair in desired.guard.ports if pair[0] in taps | ports}
    return frozenset(kept) & desired.guard.ports


def _changing(observed: Observed, desired: Desired) -> Iterator[Step]:
    for digest in sorted(desired.programs - observed.programs):
        yield PutProgram(digest)
    addresses = _changed(observed.addresses, desired.addresses)
    macs = _changed(observed.macs, desired.macs)
    if addresses:
        yield PutAddresses(addresses)
    if macs:
        yield PutMacs(macs)
    for index, port in sorted(desired.bridge_ports.items()):
        if observed.bridge_ports.get(index) != port:
            yield PutBridgePort(port)
    taps = [tap for index, tap in sorted(desired.taps.items()) if not _is_equal(observed.taps.get(index), tap)]
    for tap in taps:
        yield PutTap(tap)
    gone_addresses = frozenset(observed.addresses) - frozenset(desired.addresses)
    swapped = any(tap.ifindex in observed.taps for tap in taps)
    if swapped or any(key in observed.addresses for key in addresses) or (addresses and observed.taps):
        yield Rejudge()
    yield from _deleting(observed, desired, gone_addresses)


def _deleting(observed: Observed, desired: Desired, addresses: frozenset[AddressKey]) -> Iterator[Step]:
    for index in sorted((set(observed.taps) | observed.leftovers) - set(desired.taps)):
        yield DeleteTap(index)
    for index in sorted(set(observed.bridge_ports) - set(desired.bridge_ports)):
        yield DeleteBridgePort(index)
    macs = frozenset(observed.macs) - frozenset(desired.macs)
    if macs:
        yield DeleteMacs(macs)
    if addresses:
        yield DeleteAddresses(addresses)
        yield Rejudge()
    for digest in sorted(observed.programs - desired.programs):
        yield DeleteProgram(digest)


def _opening(observed: Observed, desired: Desired) -> Iterator[Step]:
    if desired.guard.ports - _still_open(observed, desired):
        yield OpenGuard(desired.guard)
    for index, learning in sorted(desired.learning.items()):
        if learning and not observed.learning.get(index, True):
            yield SetLearning(index, learning=True)


def _is_equal(one: Tap | None, other: Tap) -> bool:
    return one is not None and normal(one) == normal(other)


def _changed(observed: Mapping[_K, _V], desired: Mapping[_K, _V]) -> dict[_K, _V]:
    return {key: value for key, value in desired.items() if observed.get(key) != value}
