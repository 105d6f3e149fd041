"""A shield program: the verdicts of one security identity towards every peer, as the kernel looks them up."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from buckler.model.ids import IdentityNumber, RuleNumber


class Direction(IntEnum):
    """Seen from the VM. Equal to DIR_* in bpf/abi.h."""

    EGRESS = 0
    INGRESS = 1


class Verdict(IntEnum):
    """Equal to ACT_* in bpf/abi.h. Numbers that a program does not know are denied there.

    ``REJECT`` denies as ``DENY`` does, and the shield answers on the wire.
    """

    ALLOW = 1
    DENY = 2
    REJECT = 3


class Terms(msgspec.Struct, frozen=True, array_like=True, order=True):
    """What holds beside a verdict; a field at its default says nothing.

    ``until``: seconds since 1970 after which an allowance is none (0: for good). ``log``: every first packet is told.
    ``connections`` in ``within`` seconds: what an allowance bears of new connections at one interface (0: any number).
    ``staged``: what the staged draft would say here, by ``staged_rule`` (0: nothing matched); 0: there is no draft.
    """

    until: int = 0
    log: bool = False
    connections: int = 0
    within: int = 0
    staged: int = 0
    staged_rule: RuleNumber = RuleNumber(0)


class Entry(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One longest-prefix entry. Matched on (direction 8 bits, protocol 8, port 16) below an exact ``peer``.

    ``prefix`` counts bits: 8 = the direction only, 16 = and the protocol, up to 32 = one port. ``port`` is the
    destination port of TCP, UDP and SCTP, or type << 8 | code of ICMP and ICMPv6. A peer that has any entry has
    entries for everything in both directions that it needs: only a peer without entries falls to ``IDENTITY_ANY``.
    ``observed`` is the first matching rule of an observed policy (0: none): recorded, never deciding.
    """

    peer: IdentityNumber
    direction: Direction
    protocol: int
    port: int
    prefix: int
    verdict: Verdict
    rule: RuleNumber
    observed: RuleNumber = RuleNumber(0)
    terms: Terms | None = None


class Program(msgspec.Struct, frozen=True):
    """A content-addressed object. ``entries`` are sorted, so equal programs are equal bytes."""

    entries: tuple[Entry, ...]
