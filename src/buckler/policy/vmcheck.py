"""Check VMs against each other and against their networks: all of them, or again only those that differ from before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from buckler.policy.language import Document, NetworkSpec, VmSpec
from buckler.policy.membercount import MemberCounts
from buckler.policy.pool import link_local_address
from buckler.policy.prefix import Address, address_of, network_of
from buckler.policy.problem import Problem, Severity, guess

_PEER_WORDS = frozenset({"world", "host", "group", "infra"})


class CheckedVms:
    """VMs as they were checked last, by the documents that they are. What it says is what a check of all would say.

    A VM's own problems follow from its document and the networks. What two VMs both claim is counted: while nothing is
    claimed twice, nothing else can be said of any; once something is, all are checked.
    """

    def __init__(self) -> None:
        self._vms: dict[int, Document] = {}
        self._networks: tuple[Document, ...] = ()
        self._unchecked: set[int] = set()
        self._own: dict[int, tuple[Problem, ...]] = {}
        self._claims: Counter[Hashable] = Counter()
        self._twice: set[Hashable] = set()
        self._addresses: Counter[Address] = Counter()
        self.members = MemberCounts()

    def check(self, vms: Sequence[Document], networks: Mapping[str, Document]) -> Iterable[Problem]:
        """Do what ``check_vms`` does."""
        self._follow(vms)
        if self._twice or len(self._vms) != len(vms):
            return check_vms(vms, networks)
        at = tuple(networks.values())
        if len(at) != len(self._networks) or any(a is not b for a, b in zip(at, self._networks, strict=True)):
            self._networks, self._unchecked = at, set(self._vms)
        for name in self._unchecked:
            self._own.pop(name, None)
            if found := tuple(check_vms((self._vms[name],), networks)):
                self._own[name] = found
        self._unchecked.clear()
        own = self._own
        return [problem for document in vms if id(document) in own for problem in own[id(document)]] if own else ()

    def has(self, network: str, address: str) -> bool:
        """Say whether a VM that was looked at last has an address."""
        return (network, address) in self._claims

    def declare(self, vms: Sequence[Document], addresses: Iterable[Address]) -> bool:
        """Say whether one of these VMs declares one of these addresses, in whichever network."""
        self._follow(vms)
        return any(each in self._addresses for each in addresses)

    def _follow(self, vms: Sequence[Document]) -> None:
        now = {id(document): document for document in vms}
        for name in [name for name in self._vms if name not in now]:
            self._count(self._vms[name], -1)
            self._own.pop(name, None)
            self._unchecked.discard(name)
        for name, document in now.items():
            if name not in self._vms:
                self._count(document, 1)
                self._unchecked.add(name)
        self._vms = now

    def _count(self, document: Document, by: int) -> None:
        for claim in _claims(document):
            self._claims[claim] += by
            (self._twice.add if self._claims[claim] > 1 else self._twice.discard)(claim)
            if not self._claims[claim]:
                del self._claims[claim]
        for card in document.spec.interfaces if isinstance(document.spec, VmSpec) else ():
            for address in map(address_of, card.addresses):
                self._addresses[address] += by
                if not self._addresses[address]:
                    del self._addresses[address]


def _claims(document: Document) -> Iterator[Hashable]:
    """List what only one may have, once for each that has it."""
    if isinstance(document.spec, VmSpec):
        yield document.spec.uuid
        for card in document.spec.interfaces:
            yield card.network, card.mac, "mac"
            yield from ((card.network, address) for address in card.addresses)
            own = link_local_address(card.mac)
            if own not in card.addresses:
                yield card.network, own


def _problem(
    document: Document, path: str, message: str, hint: str = "", severity: Severity = Severity.ERROR
) -> Problem:
    line = document.lines.get(path, document.line)
    return Problem(document.file, line, path, f"{document.kind} {document.name}: {message}", hint, severity)


def is_inside(address: str, cidrs: Iterable[str]) -> bool:
    """Say whether an address lies in one of these prefixes."""
    parsed = address_of(address)
    return any(parsed.version == network_of(cidr).version and parsed in network_of(cidr) for cidr in cidrs)


def check_vms(vms: Iterable[Document], networks: Mapping[str, Document]) -> Iterator[Problem]:
    """Check VMs; where two claim the same, the later one is told of it."""
    uuids: dict[str, Document] = {}
    macs: dict[tuple[str, str], Document] = {}
    addresses: dict[tuple[str, str], tuple[Document, int]] = {}
    for document in vms:
        spec = document.spec
        if not isinstance(spec, VmSpec):
            continue
        if document.name in _PEER_WORDS:
            hint = "flows and explain mean another peer by it"
            yield _problem(document, "metadata.name", f"{document.name!r} cannot be a VM's name", hint)
        first = uuids.setdefault(spec.uuid, document)
        if first is not document:
            yield _problem(document, "spec.uuid", f"{spec.uuid} is VM {first.name}'s", "a domain is one VM")
        for index, card in enumerate(spec.interfaces):
            path = f"spec.interfaces[{index}]"
            yield from _card_network(document, path, card.network, networks)
            owner = macs.setdefault((card.network, card.mac), document)
            if owner is not document or any(other.mac == card.mac for other in spec.interfaces[:index]):
                yield _problem(document, f"{path}.mac", f"{card.mac} is VM {owner.name}'s", "a MAC occurs once")
            network = networks.get(card.network)
            for place, address in enumerate((*card.addresses, link_local_address(card.mac))):
                at = f"{path}.addresses[{place}]" if place < len(card.addresses) else f"{path}.mac"
                holder, other = addresses.setdefault((card.network, address), (document, index))
                twice = address in card.addresses[:place] and place < len(card.addresses)
                if holder is not document or other != index or twice:
                    yield _problem(document, at, f"{address} is VM {holder.name}'s in network {card.network}")
                if network is not None and place < len(card.addresses):
                    yield from _address(document, at, address, network)


def _card_network(document: Document, path: str, name: str, networks: Mapping[str, Document]) -> Iterator[Problem]:
    network = networks.get(name)
    if network is None:
        hint = guess(name, networks) if networks else "apply a Network document with it"
        yield _problem(document, f"{path}.network", f"network {name!r} is not known", hint)
    elif network.tenant != document.tenant:
        yield _problem(
            document,
            f"{path}.network",
            f"network {name} belongs to tenant {network.tenant}, the VM to {document.tenant}",
            "a network serves one tenant",
        )


def _address(document: Document, path: str, address: str, network: Document) -> Iterator[Problem]:
    spec = network.spec
    if not isinstance(spec, NetworkSpec):
        return
    if address in spec.gateway:
        yield _problem(document, path, f"{address} is the gateway of network {network.name}")
    if any(address in _reserved(cidr) for cidr in spec.cidrs):
        yield _problem(document, path, f"{address} stands for all of network {network.name}", "no VM can have it")
    for word, trusted in (("router", spec.routers), ("DHCP server", spec.dhcp_servers)):
        if address in trusted:
            message = f"{address} is a {word} of network {network.name}: the others believe this VM"
            yield _problem(document, path, message, severity=Severity.WARNING)
    if spec.cidrs and not is_inside(address, spec.cidrs) and not address_of(address).is_link_local:
        yield _problem(document, path, f"{address} lies in no prefix of network {network.name}", ", ".join(spec.cidrs))


def _reserved(cidr: str) -> tuple[str, ...]:
    """Name a prefix's own address (a router's anycast address in IPv6) and its broadcast address."""
    network = network_of(cidr)
    if network.prefixlen >= network.max_prefixlen - 1:
        return ()
    return (str(network.network_address), *([str(network.broadcast_address)] if network.version == 4 else []))
