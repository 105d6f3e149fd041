"""From what shields saw of claims to what the controller is asked, and what waits for its answer. Grants nothing.

A DHCP answer is seen once, so a claim waits until the controller has settled it or its VM is gone from here; while the
controller is away nothing is granted. It waits in memory only: after an agent's restart the guest's renewal, or its next
probe, asks again.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from buckler.agent.lease import read_dhcp, read_dhcpv6
from buckler.agent.names import Names
from buckler.model.agentapi import AddressClaim, AddressSource, ClaimOutcome
from buckler.model.ids import VmId
from buckler.model.shield import Tap
from buckler.ports.claims import ClaimSource, SeenClaim

MAX_PER_VM = 32
_MAX = 4096
_Key = tuple[str, str, str, str]


def read_claims(
    seen: Iterable[SeenClaim], taps: Mapping[int, Tap], names: Names, booted_at: float
) -> list[AddressClaim]:
    """Name what was seen. ``booted_at`` is the Unix time at which CLOCK_BOOTTIME was zero."""
    claims: list[AddressClaim] = []
    for one in seen:
        tap, endpoint = taps.get(one.ifindex), names.by_number.get(one.vm)
        if tap is not None and endpoint is not None and tap.vm == one.vm:
            claims += _claims(one, tap, endpoint.vm, booted_at + one.at / 1e9)
    return claims


def _claims(one: SeenClaim, tap: Tap, vm: VmId, at: float) -> list[AddressClaim]:
    if one.source == ClaimSource.DETECTED:
        return [AddressClaim(vm, tap.mac, _text(one.address), AddressSource.DETECTED, at)]
    lease = read_dhcp(one.message, tap.mac) if one.source == ClaimSource.DHCP else None
    leases = read_dhcpv6(one.message) if one.source == ClaimSource.DHCPV6 else (lease,) if lease else ()
    server = _text(one.server)
    return [AddressClaim(vm, tap.mac, each.address, AddressSource.DHCP, at, each.seconds, server) for each in leases]


def _text(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


class PendingClaims:
    """The newest claim of each (interface, address, source), up to a bound per VM and for all; what is over is counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[_Key, AddressClaim] = {}
        self._shed = 0

    def put(self, claims: Iterable[AddressClaim], shed: int = 0) -> None:
        """Add claims; a newer one replaces its elder (a lease's end is another by then)."""
        with self._lock:
            self._shed += shed
            crowd = Counter(claim.vm for claim in self._waiting.values())
            for claim in claims:
                key = _key(claim)
                if key not in self._waiting:
                    if crowd[claim.vm] >= MAX_PER_VM or len(self._waiting) >= _MAX:
                        self._shed += 1
                        continue
                    crowd[claim.vm] += 1
                self._waiting[key] = claim

    def keep(self, vms: frozenset[str]) -> None:
        """Forget the claims of VMs that are not here any more: where they are now, they renew."""
        with self._lock:
            self._waiting = {key: claim for key, claim in self._waiting.items() if claim.vm in vms}

    def oldest(self, limit: int) -> tuple[tuple[AddressClaim, ...], int]:
        """(claims, shed): they stay until ``settle``."""
        with self._lock:
            return tuple(self._waiting.values())[:limit], self._shed

    def settle(self, claims: tuple[AddressClaim, ...], outcomes: tuple[ClaimOutcome, ...], shed: int) -> None:
        """Forget what was answered, unless it was replaced meanwhile; what has to wait goes behind the others."""
        with self._lock:
            self._shed -= shed
            for claim, outcome in zip(claims, outcomes, strict=False):
                if self._waiting.get(_key(claim)) is claim:
                    del self._waiting[_key(claim)]
                    if outcome is ClaimOutcome.LATER:
                        self._waiting[_key(claim)] = claim


def _key(claim: AddressClaim) -> _Key:
    return claim.vm, claim.mac, claim.address, claim.source.value
