"""The door to what VMs would have as addresses. Owns no decision: a claim is a wish, seen and not believed."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

import msgspec

from buckler.ports.telemetry import Shed


class ClaimSource(IntEnum):
    """What made it. Equal to CLAIM_* in bpf/abi.h."""

    DHCP = 1
    """A permitted server's DHCP answer (RFC 2131) for the interface's MAC."""
    DHCPV6 = 2
    """A permitted server's Reply (RFC 8415) to the interface's own address."""
    DETECTED = 3
    """A probe of duplicate address detection (RFC 4862, RFC 5227) by the VM itself."""
    DNS_QUERY = 4
    """A message that passed from the VM to port 53 of a resolver of its network."""
    DNS_ANSWER = 5
    """A message that passed from there to the VM."""


class SeenClaim(msgspec.Struct, frozen=True, array_like=True):
    """One claim as its frame made it. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ``at`` is CLOCK_BOOTTIME ns.

    ``address`` is what a probe asked for; ``server`` who answered; ``message`` the answer behind the UDP header, cut at
    1,024 bytes and read by nobody yet. Of DNS ``address`` and ``port`` are the VM's, ``server`` is the resolver, and a longer
    message is not told at all.
    """

    at: int
    ifindex: int
    vm: int
    source: int
    address: bytes
    server: bytes
    message: bytes
    port: int = 0


class Claims(Protocol):
    """Claims of all taps of a host. Raises ShieldFailed."""

    def claims(self, limit: int) -> list[SeenClaim]:
        """Take up to ``limit`` claims, oldest first; each is given once."""

    def shed(self) -> Shed:
        """How many claims were not delivered since loading: ring full, and over a tap's budget."""
