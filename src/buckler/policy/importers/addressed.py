"""Rules that name addresses → rules that name VMs and outside addresses. Owns who holds an address, not where rules come from.

A VM whose address is not known, or lies only in part within a rule's prefixes, is never matched by a rule that allows
and always by one that denies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence

import msgspec

from buckler.model.label import LABEL_NAME, Expression, Operator, Selector
from buckler.policy.language import Action, Peer, Port

ANY_PORT = (Port(),)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Holder(msgspec.Struct, frozen=True):
    """One interface that may have addresses; none are known if there are none."""

    title: str
    name: str
    addresses: tuple[str, ...] = ()
    card: str = ""
    """The interface's label value, where the VM has several."""
    network: str = ""


class Blocks(msgspec.Struct, frozen=True):
    """A set of addresses: the longest prefix that holds an address says whether it is in."""

    within: tuple[str, ...]
    without: tuple[str, ...] = ()

    def holds(self, address: str) -> bool:
        """Say whether an address is in the set."""
        parsed = ipaddress.ip_address(address)
        best = {flag: _longest(parsed, group) for flag, group in ((True, self.within), (False, self.without))}
        return best[True] > best[False]

    def peers(self) -> tuple[Peer, ...]:
        """Write the set as peers outside: each prefix less what is cut out of it."""
        return tuple(
            Peer(cidr=each, excluded=tuple(cut for cut in self.without if cut != each and _is_part(cut, each)))
            for each in self.within
            if each not in self.without
        )


class Resolved(msgspec.Struct, frozen=True):
    """The peers of one rule: what it surely means, and the VMs that it may mean. ``doubtful`` names them."""

    sure: tuple[Peer, ...]
    unsure: tuple[Peer, ...]
    doubtful: tuple[str, ...]

    def for_action(self, action: Action) -> tuple[Peer, ...]:
        """Give the peers that a rule of this action must name."""
        return self.sure if action is Action.ALLOW else (*self.sure, *self.unsure)


CARD = "imported/interface"
"""The label key of interfaces of imported VMs that have several."""


def resolve_blocks(blocks: Blocks, holders: Sequence[Holder]) -> Resolved:
    """Find the VMs of a set of addresses; the rest of it is outside."""
    inside, unsure = [], []
    for holder in holders:
        match is_held(blocks, holder.addresses):
            case True:
                inside.append(holder)
            case None:
                unsure.append(holder)
    return Resolved((*blocks.peers(), *vm_peers(inside)), vm_peers(unsure), tuple(each.title for each in unsure))


def is_held(blocks: Blocks, addresses: Sequence[str]) -> bool | None:
    """Say whether all of some addresses are in the set; None: only some, or nobody knows which they are."""
    if not addresses:
        return None if blocks.within else False
    found = {blocks.holds(each) for each in addresses}
    return found.pop() if len(found) == 1 else None


def vm_peers(holders: Sequence[Holder]) -> tuple[Peer, ...]:
    """Name interfaces: those of whole VMs together, single ones each."""
    whole = tuple(sorted({each.name for each in holders if not each.card}))
    peers = [Peer(vm=Selector(match_expressions=(Expression(LABEL_NAME, Operator.IN, whole),)))] if whole else []
    for each in holders:
        if each.card:
            peers.append(Peer(vm=card_selector(each)))
    return tuple(peers)


def card_selector(holder: Holder) -> Selector:
    """Select one interface, or the one VM."""
    labels = {LABEL_NAME: holder.name} | ({CARD: holder.card} if holder.card else {})
    return Selector(match_labels=labels)


def shared_addresses(cards: Iterable[tuple[str, Sequence[str]]]) -> set[tuple[str, str]]:
    """List (network, address) that more than one interface has, or that no interface can have: none is given it here."""
    seen: dict[tuple[str, str], int] = {}
    for network, addresses in cards:
        for each in addresses:
            parsed = ipaddress.ip_address(each)
            odd = parsed.is_multicast or parsed.is_unspecified or parsed.is_loopback or each == "255.255.255.255"
            mapped = parsed.version == 6 and (parsed.ipv4_mapped is not None or "%" in each)
            seen[network, each] = seen.get((network, each), 0) + (2 if odd or mapped else 1)
    return {key for key, count in seen.items() if count > 1}


def read_blocks(words: Sequence[str], fail: Callable[[str], Exception], *, strict: bool = False) -> Blocks:
    """Read prefixes, addresses and ranges of them; ``strict``: no bits stand behind a prefix."""
    found: list[str] = []
    for word in words:
        try:
            found += [str(each) for each in _networks(word, strict)]
        except (ValueError, TypeError):
            raise fail(f"{word!r} is no address, prefix or range") from None
    return Blocks(tuple(dict.fromkeys(found)))


def is_mask_inverted(word: str) -> bool:
    """Say whether what stands behind a slash says which bits may differ, or mixes them: few readers take that."""
    mask = word.partition("/")[2]
    return "." in mask and str(ipaddress.IPv4Network(f"0.0.0.0/{mask}").netmask) != mask


def _networks(word: str, strict: bool) -> Sequence[Network]:
    first, dash, last = word.partition("-")
    found: list[Network]
    if dash:
        found = list(ipaddress.summarize_address_range(ipaddress.ip_address(first), ipaddress.ip_address(last)))
    else:
        found = [ipaddress.ip_network(word, strict=strict)]
    if (
        "%" in word
        or is_mask_inverted(word)
        or any(each.is_multicast or (each.version == 6 and each.subnet_of(_MAPPED)) for each in found)
    ):
        raise ValueError(word)
    return found


def _longest(address: ipaddress.IPv4Address | ipaddress.IPv6Address, group: Sequence[str]) -> int:
    held = (ipaddress.ip_network(each) for each in group)
    return max((each.prefixlen for each in held if address in each), default=-1)


def _is_part(part: str, whole: str) -> bool:
    inner, outer = ipaddress.ip_network(part), ipaddress.ip_network(whole)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]  # one version


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
