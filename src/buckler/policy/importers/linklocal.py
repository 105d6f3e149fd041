"""IPv6 link-local addresses under rules of addresses: where such a rule means them here and not there. Owns no rule.

A rule here names VMs with all their addresses, the link-local one too. Where that would allow more than the source, the network
has none (``linkLocal: false``): nobody speaks by one, so nothing is loosened.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

from buckler.policy.importers.addressed import Blocks, Holder, is_held
from buckler.policy.language import DENIALS, Action, Port

_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")
_OUTSIDE = "addresses outside"
NONE_HERE = "here nobody in the network has one"


class Gap(msgspec.Struct, frozen=True):
    """One difference, in the words of a loss. ``severs``: as it stands more would be allowed, so the network must have none."""

    what: str
    means: str
    severs: bool = False


def holds_link_local(blocks: Blocks | None) -> bool | None:
    """Say whether link-local addresses are in a set; None: some of them. Without a set, all addresses are meant."""
    if blocks is None:
        return True
    inside = [ipaddress.ip_network(each) for each in blocks.within]
    outside = [ipaddress.ip_network(each) for each in blocks.without]
    if any(each.overlaps(_LINK_LOCAL) and each.prefixlen > _LINK_LOCAL.prefixlen for each in (*inside, *outside)):
        return None
    return _depth(inside) > _depth(outside)


def _depth(group: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> int:
    return max((each.prefixlen for each in group if each.version == 6 and each.overlaps(_LINK_LOCAL)), default=-1)


def is_of_ipv4_only(ports: Sequence[Port]) -> bool:
    """Say whether what a rule matches shows by itself that it is IPv4: then no link-local address is meant."""
    return bool(ports) and all(each.protocol == "ICMP" for each in ports)


def find_gaps(
    action: Action, own: Holder, near: Blocks | None, far: Blocks | None, others: Sequence[Holder]
) -> tuple[Gap, ...]:
    """Compare one rule at ``own`` as it stands there and here. ``near`` and ``far``: its sets of addresses; None: all."""
    if near is None and far is None:
        return ()
    believed = (True, None) if action in DENIALS else (True,)
    neighbours = [each for each in others if each.network == own.network]
    at_home = near is None or is_held(near, own.addresses) in believed
    here = {each.title: at_home and (far is None or is_held(far, each.addresses) in believed) for each in neighbours}
    if far is None:
        here[_OUTSIDE] = at_home
    ways = (holds_link_local(near), holds_link_local(far))
    there = False if False in ways else None if None in ways else True
    return name_gaps(action, here, dict.fromkeys(here, there))


def name_gaps(action: Action, here: dict[str, bool], there: dict[str, bool | None]) -> tuple[Gap, ...]:
    """Name whom a rule means by link-local addresses here but not there, and the other way round."""
    more = [title for title, meant in here.items() if meant and there[title] is not True]
    less = [title for title, meant in here.items() if not meant and there[title] is not False]
    denies = action in DENIALS
    found = []
    if more:
        what = f"the rule does not mean the IPv6 link-local addresses of {_names(more)}"
        found.append(Gap(what, "here it denies them too" if denies else NONE_HERE, severs=not denies))
    if less:
        what = f"the rule means the IPv6 link-local addresses of {_names(less)}, but not their others"
        means = NONE_HERE if denies else f"here it {'allows' if action is Action.ALLOW else 'passes on'} none of them"
        found.append(Gap(what, means, severs=denies))
    return tuple(found)


def _names(titles: Sequence[str]) -> str:
    return ", ".join(titles[:5]) + (" …" if len(titles) > 5 else "")
