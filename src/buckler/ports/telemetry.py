"""The door to what shields counted and saw."""

from __future__ import annotations

from typing import Protocol

import msgspec

FIRST_REFUSAL = 32
"""Reasons below, but 0, let a frame pass. Equal to REASON_FIRST_REFUSAL of bpf/abi.h."""


class ShieldEvent(msgspec.Struct, frozen=True, array_like=True):
    """One first packet or refusal. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d. ``at`` is CLOCK_BOOTTIME ns.

    ``logged``: told because the rule that decided logs. ``answered``: rejected, and the shield said so on the wire.
    ``staged``: the verdict's number in the staged draft, by ``staged_rule``; 0: there is no draft.
    ``service``: the number of the service through whose virtual address the VM speaks with the other end; 0: directly.
    """

    at: int
    ifindex: int
    vm: int
    peer_vm: int
    peer_identity: int
    rule: int
    observed: int
    length: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    ethertype: int
    protocol: int
    direction: int
    allowed: bool
    reason: int
    logged: bool = False
    answered: bool = False
    staged: int = 0
    staged_rule: int = 0
    service: int = 0


class Shed(msgspec.Struct, frozen=True):
    """Events that were not delivered since loading: ring full, and over the rate budget."""

    lost: int
    suppressed: int


class ReasonCount(msgspec.Struct, frozen=True):
    packets: int
    bytes: int


class PairCount(msgspec.Struct, frozen=True, array_like=True):
    """Packets between a local VM and a peer decided by one rule in one direction."""

    vm: int
    peer_vm: int
    peer_identity: int
    rule: int
    direction: int
    allowed: bool
    packets: int
    bytes: int


class StagedCount(msgspec.Struct, frozen=True, array_like=True):
    """Of the packets of a pair, those of which the staged draft says ``staged`` (a Verdict's number) by ``staged_rule``."""

    staged: int
    staged_rule: int
    count: PairCount


class Telemetry(Protocol):
    """Counters never go back while a tap lives; the sums of reasons equal the packets that the tap saw."""

    def events(self, limit: int) -> list[ShieldEvent]:
        """Take up to ``limit`` events, oldest first; each is given once."""

    def shed(self) -> Shed:
        """How many events were not delivered."""

    def reasons(self, ifindex: int) -> dict[tuple[int, int], ReasonCount]:
        """(direction, reason) → count for one tap; reason numbers are REASON_* of bpf/abi.h."""

    def pairs(self) -> list[PairCount]:
        """Counts per pair and rule, and those that found no room under peer_vm = peer_identity = rule = 0xffffffff."""

    def staged(self) -> list[StagedCount]:
        """The same packets once more by what a staged draft says of them; nothing where there is no draft."""

    def forget_pairs(self, vms: frozenset[int]) -> None:
        """Free the counts of VMs that have no tap here any more; before that they are never lost."""

    def connections(self, ifindex: int) -> tuple[int, int]:
        """(established, half-open) connections of one tap."""
