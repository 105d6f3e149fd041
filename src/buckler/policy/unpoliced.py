"""What shields decide before any policy: addresses that no packet may carry, control traffic. Owns nothing that policy decides.

The words of ``bpf/lib/tap.h`` for a first packet; what depends on more than addresses, protocol and type is told as such.
"""

from __future__ import annotations

import ipaddress

import msgspec

from buckler.policy.language import PROTOCOLS
from buckler.policy.prefix import address_of
from buckler.policy.space import Range, range_of, without

BROADCAST = "255.255.255.255"
NOWHERE: tuple[Range, ...] = tuple(
    range_of(each)
    for each in ("0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/4", f"{BROADCAST}/32", "::/127", "::ffff:0:0/96", "ff00::/8")
)
"""Where nobody is outside, whatever policies say: groups among them, which have rules of their own."""
ICMP, IGMP, ICMPV6 = PROTOCOLS["ICMP"], 2, PROTOCOLS["ICMPv6"]
_ND = range(133, 137)
_MLD = frozenset({130, 131, 132, 143})
_ERRORS = {ICMP: frozenset({3, 4, 11, 12}), ICMPV6: frozenset(range(128))}
_REPLIES = {ICMP: 0, ICMPV6: 129}
_REDIRECTS = {ICMP: 5, ICMPV6: 137}


class Unpoliced(msgspec.Struct, frozen=True):
    """What becomes of a packet that no policy is asked about, and why. ``is_soft``: observe mode lets it pass."""

    passes: bool
    text: str
    is_soft: bool = False


def is_somewhere(ranges: tuple[Range, ...]) -> bool:
    """Say whether any of some addresses may be somebody's."""
    return bool(without(ranges, NOWHERE))


def is_group(address: str) -> bool:
    """Say whether an address is a multicast one, or everybody's."""
    return address_of(address).is_multicast or address == BROADCAST


def why_martian(address: str, *, is_source: bool = False) -> str:
    """Say why no packet may carry an address there; empty: it may."""
    parsed = address_of(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return f"{address} is IPv4 written as IPv6, which is on no wire: ask about {parsed.ipv4_mapped}"
    if parsed.is_loopback:
        return f"{address} is a loopback address: such packets stay within a machine"
    if parsed.is_unspecified:
        return f"{address} is nobody's address"
    if is_source and is_group(address):
        return f"{address} is a group's address, and no packet comes from one"
    return ""


def families_of(protocol: int) -> frozenset[int]:
    """Give the IP versions that carry a protocol."""
    return {ICMP: frozenset({4}), IGMP: frozenset({4}), ICMPV6: frozenset({6})}.get(protocol, frozenset({4, 6}))


def control_traffic(protocol: int, port: int) -> Unpoliced | None:
    """Tell what shields do with control traffic, which is not policy's; None: it is not such."""
    if protocol == IGMP:
        return Unpoliced(True, "memberships are reported and asked for without a rule, in the form of their standard")
    if protocol not in _ERRORS:
        return None
    kind = port >> 8
    if kind == _REDIRECTS[protocol]:
        return Unpoliced(False, "redirects never pass, and no policy can open them")
    if protocol == ICMPV6 and kind in _ND:
        return Unpoliced(
            True,
            "neighbour discovery passes without a rule where it is true: of the sender's own addresses; advertisements "
            "of routers from the network's routers only",
        )
    if protocol == ICMPV6 and kind in _MLD:
        return Unpoliced(True, "memberships are reported and asked for without a rule, in the form of their standard")
    if kind == _REPLIES[protocol]:
        return Unpoliced(False, "an echo reply passes only as the answer of an echo that was allowed", is_soft=True)
    if kind in _ERRORS[protocol]:
        return Unpoliced(False, "an ICMP error passes only where it speaks of a connection that was allowed")
    return None
