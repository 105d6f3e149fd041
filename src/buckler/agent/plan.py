"""Observed against desired → the steps between, in the order that never opens too early. Pure; takes no step.

Programs are in force before an address means another: so a host that skipped the stages of a change judges by the new
rules first. Deletions come last, and what is admitted anew after everything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

import msgspec

from buckler.agent.desired import Desired, Observed
from buckler.model.ids import Digest, VmNumber
from buckler.model.shield import Address, AddressKey, BridgePort, GuardState, MacKey, Service, ServiceKey, Tap
from buckler.reconcile.delta import Delta, diff


class CloseGuard(msgspec.Struct, frozen=True):
    """Make the guard stand, and take from it every port that must not (yet) be open."""

    state: GuardState


class SetLearning(msgspec.Struct, frozen=True):
    ifindex: int
    learning: bool


class PutProgram(msgspec.Struct, frozen=True):
    digest: Digest


class PutTap(msgspec.Struct, frozen=True):
    tap: Tap


class PutAddresses(msgspec.Struct, frozen=True):
    """Inner prefixes before those around them: no address means its surroundings for a moment."""

    entries: dict[AddressKey, Address]


class PutMacs(msgspec.Struct, frozen=True):
    entries: dict[MacKey, VmNumber]


class PutServices(msgspec.Struct, frozen=True):
    """Members and ports of virtual addresses. Asked of every packet that has to do with one: nothing is judged again."""

    entries: dict[ServiceKey, Service]


class PutBridgePort(msgspec.Struct, frozen=True):
    port: BridgePort


class Rejudge(msgspec.Struct, frozen=True):
    """Let every established connection be judged again."""


class DeleteTap(msgspec.Struct, frozen=True):
    ifindex: int


class DeleteBridgePort(msgspec.Struct, frozen=True):
    ifindex: int


class DeleteServices(msgspec.Struct, frozen=True):
    keys: frozenset[ServiceKey]


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
    | PutTap
    | PutMacs
    | PutAddresses
    | PutServices
    | PutBridgePort
    | Rejudge
    | DeleteTap
    | DeleteBridgePort
    | DeleteServices
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
    """What may stay open meanwhile: where a shield stands; without a guard only where it stands as it should."""
    standing = {*observed.taps, *observed.bridge_ports}
    if observed.guard is not None:
        return frozenset(pair for pair in observed.guard.ports if pair[0] in standing) & desired.guard.ports
    altered = {*_tap_delta(observed, desired).puts, *diff(desired.bridge_ports, observed.bridge_ports).puts}
    return frozenset(pair for pair in desired.guard.ports if pair[0] in standing - altered)


def _changing(observed: Observed, desired: Desired) -> Iterator[Step]:
    taps = _tap_delta(observed, desired)
    addresses = diff(desired.addresses, observed.addresses)
    macs = diff(desired.macs, observed.macs)
    services = diff(desired.services, observed.services)
    ports = diff(desired.bridge_ports, observed.bridge_ports)
    yield from (PutProgram(digest) for digest in sorted(desired.programs - observed.programs))
    yield from (PutTap(desired.taps[index]) for index in sorted(taps.puts))
    if macs.puts:
        yield PutMacs(macs.puts)
    if addresses.puts:
        yield PutAddresses(dict(sorted(addresses.puts.items(), key=lambda entry: -_length(entry[0]))))
    if services.puts:
        yield PutServices(services.puts)
    yield from (PutBridgePort(port) for _, port in sorted(ports.puts.items()))
    if taps.changes or addresses.changes or (addresses.adds and observed.taps):
        yield Rejudge()
    yield from (DeleteTap(index) for index in sorted({*taps.removes, *observed.leftovers} - set(desired.taps)))
    yield from (DeleteBridgePort(index) for index in sorted(ports.removes))
    if services.removes:
        yield DeleteServices(frozenset(services.removes))
    if macs.removes:
        yield DeleteMacs(frozenset(macs.removes))
    yield from _forgetting(addresses.removes)
    yield from (DeleteProgram(digest) for digest in sorted(observed.programs - desired.programs))


def _forgetting(gone: Iterable[AddressKey]) -> Iterator[Step]:
    """Outer prefixes before those within them, for the reason that they were put the other way round."""
    by_length: dict[int, set[AddressKey]] = {}
    for key in gone:
        by_length.setdefault(_length(key), set()).add(key)
    for length in sorted(by_length):
        yield DeleteAddresses(frozenset(by_length[length]))
    if by_length:
        yield Rejudge()


def _opening(observed: Observed, desired: Desired) -> Iterator[Step]:
    if desired.guard.ports - _still_open(observed, desired):
        yield OpenGuard(desired.guard)
    for index, learning in sorted(desired.learning.items()):
        if learning and not observed.learning.get(index, True):
            yield SetLearning(index, learning=True)


def _tap_delta(observed: Observed, desired: Desired) -> Delta[int, Tap]:
    return diff(*({index: normal(tap) for index, tap in taps.items()} for taps in (desired.taps, observed.taps)))


def _length(key: AddressKey) -> int:
    return ipaddress.ip_network(key.prefix).prefixlen
