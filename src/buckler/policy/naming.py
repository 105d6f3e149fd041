"""May an answer open anything, and for how long? Pure; owns no storing, and no reading of messages.

An answer counts for a name that a policy means at the VM that asked, in its own network alone, and never for an address
that is the pool's own: whoever answers for a name chooses where it leads (rebinding).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from buckler.model.ids import VmId
from buckler.model.label import LABEL_TENANT
from buckler.policy.claim import Ground, Owners
from buckler.policy.language import Document, FlowSpec, PolicySpec, Stand, Tier
from buckler.policy.learned import Learned, is_meant, patterns_of, refuse_pattern
from buckler.policy.prefix import network_of

SHORTEST = 3600
"""Seconds. Longer than most answers live, so that what a short one led to is not cut while the VM has no reason to ask again."""
LONGEST = 86400
GRAIN = 900
"""Ends fall on whole quarters of an hour: what is renewed within one changes no program."""
MOST_ADDRESSES = 32
"""Of one name in one network."""
MOST_OF_VM = 128
MOST_OF_NETWORK = 4096

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_WRAPPED = ipaddress.IPv6Network("64:ff9b::/96")
"""What a translator makes of IPv4 addresses (RFC 6052)."""


def end_of(at: float, seconds: int, now: float) -> int:
    """Say until when an answer holds. A host's clock may be wrong: it counts from now at the latest."""
    end = min(at, now) + min(max(seconds, SHORTEST), LONGEST)
    return int(-(-end // GRAIN) * GRAIN)


def patterns_at(documents: Iterable[Document], labels: Mapping[str, str]) -> frozenset[str]:
    """Name the patterns of policies that bind a VM with these labels."""
    return frozenset[str]().union(*(patterns_of(each) for each in documents if _binds(each, labels)))


def patterns_in(documents: Iterable[Document], tenant: str) -> tuple[str, ...]:
    """Name the patterns that may bind a VM of a tenant."""
    found = frozenset[str]().union(*(patterns_of(each) for each in documents if _may_bind(each, tenant)))
    return tuple(sorted(found))


def _may_bind(document: Document, tenant: str) -> bool:
    spec = document.spec
    return isinstance(spec, PolicySpec | FlowSpec) and (spec.tier is not Tier.TENANT or document.tenant == tenant)


def _binds(document: Document, labels: Mapping[str, str]) -> bool:
    spec = document.spec
    if not _may_bind(document, labels[LABEL_TENANT]):
        return False
    if isinstance(spec, PolicySpec):
        return spec.subject.stand is Stand.VM and spec.subject.matches(labels)
    return isinstance(spec, FlowSpec) and any(
        peer.any or (peer.vm is not None and peer.vm.matches(labels)) for peer in spec.sources
    )


def is_name(text: str) -> bool:
    """Say whether a text is one name, as an honest host tells it: patterns would take anything below their dot."""
    return not refuse_pattern(text) and not text.startswith("*")


def refuse_answer(
    ground: Ground,
    owners: Owners,
    patterns: Iterable[str],
    held: Sequence[Learned],
    wanted: Learned,
    card: tuple[VmId, str],
) -> str:
    """Say why an answer opens nothing; empty: it does. ``card``: the VM and MAC that asked; ``held``: all answers of the pool."""
    if not is_name(wanted.name):
        return "it is no name of a host"
    network = ground.networks.get(wanted.network)
    if network is None or ground.cards.get(card) != wanted.network:
        return "the VM has no such interface in this network"
    if wanted.resolver not in network.resolvers:
        return f"{wanted.resolver} is no resolver of network {network.name}"
    if not any(is_meant(pattern, wanted.name) for pattern in patterns):
        return f"no policy of the VM means {wanted.name}"
    why = unfit_address(ground, owners, wanted.address)
    return why or _over(held, wanted)


def unfit_address(ground: Ground, owners: Owners, text: str) -> str:
    """Say why no answer may open an address, whoever asks; empty: it may."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "it is no address"
    if str(address) != text or getattr(address, "scope_id", None):
        return "it is not written as an address is"
    for each in (address, *_inner(address)):
        is_reserved = each.is_reserved and each not in _WRAPPED
        if each.is_multicast or each.is_unspecified or each.is_loopback or each.is_link_local or is_reserved:
            return f"{each} is nobody's in the world"
        if why := _ours(ground, owners, each):
            return why
    return ""


def _inner(address: _Address) -> tuple[_Address, ...]:
    """The IPv4 address to which a translator or tunnel would carry what is sent to an IPv6 address."""
    if not isinstance(address, ipaddress.IPv6Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _WRAPPED:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(each for each in found if each is not None)


def _ours(ground: Ground, owners: Owners, address: _Address) -> str:
    text = str(address)
    if text in ground.infra:
        return f"{text} is a hypervisor host's"
    if text in ground.controllers:
        return f"{text} is a controller's"
    for network in ground.networks.values():
        if text in (*network.gateway, *network.routers, *network.dhcp_servers):
            return f"{text} serves network {network.name}"
        if any(cidr.version == address.version and address in cidr for cidr in map(network_of, network.cidrs)):
            return f"{text} lies in network {network.name}"
        if any((network.name, text) in each for each in (owners, ground.endpoints, ground.services)):
            return f"{text} is somebody's in network {network.name}"
    return ""


def _over(held: Sequence[Learned], wanted: Learned) -> str:
    others = [each for each in held if each.network == wanted.network and _place(each) != _place(wanted)]
    if sum(each.name == wanted.name for each in others) >= MOST_ADDRESSES:
        return f"{wanted.name} has {MOST_ADDRESSES} addresses already"
    if sum(each.vm == wanted.vm for each in others) >= MOST_OF_VM:
        return f"the VM has {MOST_OF_VM} answers already"
    return f"the network has {MOST_OF_NETWORK} answers already" if len(others) >= MOST_OF_NETWORK else ""


def list_over(
    ground: Ground, owners: Owners, documents: Sequence[Document], held: Iterable[Learned], now: float
) -> tuple[tuple[Learned, str], ...]:
    """Say which answers must end, and why."""
    found: list[tuple[Learned, str]] = []
    meant: dict[str, tuple[str, ...]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for each in held:
        network = ground.networks.get(each.network)
        if network is not None and network.tenant not in meant:
            meant[network.tenant] = patterns_in(documents, network.tenant)
        if network is None:
            why = "the network is gone"
        elif each.until <= now:
            why = "nobody asked again in time"
        elif each.resolver not in network.resolvers:
            why = f"{each.resolver} is no resolver of network {network.name} any more"
        elif not any(is_meant(pattern, each.name) for pattern in meant[network.tenant]):
            why = "no policy means it any more"
        else:
            why = unfit_address(ground, owners, each.address)
        counts[each.network, each.name] += not why
        if why:
            found.append((each, why))
    return tuple(found)


def _place(each: Learned) -> tuple[str, str, str]:
    return each.network, each.name, each.address
