"""The meaning of the policy language in plain Python: what every other part is checked against.

Judges one packet by walking documents as they are written. Owns no tables, no numbers and no speed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from buckler.model.label import LABEL_TENANT, Selector
from buckler.model.program import Direction
from buckler.policy.judgement import Considered, End, EndJudgement, Judgement, Outcome, PeerKind
from buckler.policy.language import (
    DEFAULT_TENANT,
    PROTOCOLS,
    Action,
    AddressGroupSpec,
    Document,
    FlowSpec,
    Kind,
    Peer,
    PolicyMode,
    PolicySpec,
    Port,
    ServiceSpec,
    Stand,
    Tier,
)
from buckler.policy.packet import Packet
from buckler.policy.pool import Pool, Station, singled_out, stations, visitors
from buckler.policy.quarantine import QUARANTINE_POLICIES


def judge(pool: Pool, documents: Iterable[Document], packet: Packet) -> Judgement:
    """Judge the first packet of a connection: allowed iff the sender's egress and the receiver's ingress allow it."""
    documents = tuple(documents)
    source = find_end(pool, documents, packet.network, packet.source)
    destination = find_end(pool, documents, packet.network, packet.destination)
    egress = ingress = None
    if source.station:
        egress = judge_end(documents, source.station, Direction.EGRESS, destination, packet.protocol, packet.port)
    if destination.station:
        ingress = judge_end(documents, destination.station, Direction.INGRESS, source, packet.protocol, packet.port)
    ends = [end for end in (egress, ingress) if end is not None]
    return Judgement(bool(ends) and all(end.allowed for end in ends), egress, ingress)


def find_end(pool: Pool, documents: Iterable[Document], network: str, address: str) -> End:
    """Find whose address it is, seen from within ``network``."""
    parsed = ipaddress.ip_address(address)
    served = {ipaddress.ip_address(gateway) for each in pool.networks for gateway in each.gateway}
    if parsed in _host_addresses(pool) - served:
        return End(PeerKind.INFRA, address)
    if parsed.is_multicast or address == "255.255.255.255" or _is_broadcast(pool, network, address):
        return End(PeerKind.GROUP, address)
    singled = singled_out(documents)
    for station in stations(pool, singled):
        owned = {ipaddress.ip_address(each) for each in station.addresses}
        if station.network.name == network and parsed in owned:
            return End(PeerKind.VM, address, station)
    for visitor in visitors(pool, singled):
        owned = {ipaddress.ip_address(each) for each in visitor.outsider.addresses}
        if visitor.network.name == network and parsed in owned:
            return End(PeerKind.ENDPOINT, address, visitor=visitor)
    for each in pool.networks:
        if each.name == network and parsed in {ipaddress.ip_address(gateway) for gateway in each.gateway}:
            return End(PeerKind.HOST, address)
    return End(PeerKind.WORLD, address)


def judge_end(
    documents: Iterable[Document], station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> EndJudgement:
    """Judge what one shield enforces: its VM's own end, and beyond it the host or the edge where policies ask it."""
    own, *far = judge_parts(documents, station, direction, peer, protocol, port)
    for other in far:
        rule = own.rule if other.allowed or not own.allowed else other.rule
        considered = (*own.considered, *other.considered)
        observed = own.observed or other.observed
        own = EndJudgement(station, peer, direction, own.allowed and other.allowed, rule, observed, considered, own.at)
    return own


def judge_parts(
    documents: Iterable[Document], station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> tuple[EndJudgement, ...]:
    """Judge by end: tier after tier, order after order, each document's first match, the strictest wins."""
    if peer.kind is PeerKind.INFRA:
        return (EndJudgement(station, peer, direction, False, None, None, ()),)
    documents = tuple(documents)
    far = {PeerKind.HOST: Stand.HOST, PeerKind.WORLD: Stand.EDGE}.get(peer.kind)
    ends = [Stand.VM, *([far] if far and _is_asked(documents, far, direction) else [])]
    named = {each.key: each for each in documents if each.kind in {Kind.ADDRESS_GROUP, Kind.SERVICE}}
    found = []
    for stand in ends:
        walk = _Walk()
        for level in _levels(documents):
            asked = [_Asked(document, named, stand) for document in level]
            walk.judge_level([_considered(each, station, direction, peer, protocol, port) for each in asked])
        walk.end_tier()
        decision = walk.standing
        allowed = decision is not None and decision.action is Action.ALLOW
        considered = tuple(walk.told)
        found.append(EndJudgement(station, peer, direction, allowed, decision, walk.observed, considered, stand))
    return tuple(found)


def _is_asked(documents: Iterable[Document], stand: Stand, direction: Direction) -> bool:
    """The host and the edge have a say where some enforced policy has them as its subject, and deny by default then."""
    specs = [each.spec for each in documents if isinstance(each.spec, PolicySpec)]
    here = [each for each in specs if each.subject.stand is stand and each.mode is PolicyMode.ENFORCE]
    return any(each.ingress if _is_inward(stand, direction) else each.egress for each in here)


def _is_inward(stand: Stand, direction: Direction) -> bool:
    """Say whether a VM's direction is ``ingress`` in a policy: the host receives what a VM sends; the edge sees it as VMs do."""
    return (direction is Direction.INGRESS) is not (stand is Stand.HOST)


class _Asked(msgspec.Struct, frozen=True):
    """A document, the groups and services that it may name, and whose end is asked."""

    document: Document
    named: dict[str, Document]
    stand: Stand

    def look_up(self, kind: Kind, name: str) -> AddressGroupSpec | ServiceSpec:
        """Find a name in the document's tenant, else in the default one."""
        for tenant in (self.document.tenant, DEFAULT_TENANT):
            found = self.named.get(f"{kind}/{tenant}/{name}")
            if found is not None and isinstance(found.spec, AddressGroupSpec | ServiceSpec):
                return found.spec
        raise LookupError(f"{kind} {name}")


class _Candidate(msgspec.Struct, frozen=True):
    """One rule of one document at this end."""

    rule: Considered
    mode: PolicyMode
    overridable: bool


class _Walk:
    """Where judging stands: what would decide now, and whether anything later still can."""

    def __init__(self) -> None:
        self.standing: Considered | None = None
        self.observed: Considered | None = None
        self.told: list[Considered] = []
        self.tier: Tier | None = None
        self.tier_is_settled = False
        self.is_final = False

    def judge_level(self, level: list[list[_Candidate]]) -> None:
        """Judge the documents of one tier and order."""
        candidates = [candidate for document in level for candidate in document]
        if not candidates:
            return
        tier = candidates[0].rule.tier
        if tier is not self.tier:
            self.end_tier()
            self.tier = tier
        if self.is_final or self.tier_is_settled:
            self.told += [_told(each.rule, Outcome.NOT_REACHED) for each in candidates]
            return
        firsts = [first for document in level if (first := _first_match(document)) is not None]
        decider = min(firsts, key=_strictness, default=None)
        for candidate in candidates:
            self._tell(candidate, firsts, decider)
        if decider is not None:
            self._settle(decider)

    def end_tier(self) -> None:
        """Go on to the next tier."""
        self.tier_is_settled = False

    def _settle(self, decider: _Candidate) -> None:
        self.tier_is_settled = True
        if decider.rule.action is Action.PASS:
            return
        if self.standing is not None:
            old = self.standing
            self.told = [_told(each, Outcome.REPLACED) if each is old else each for each in self.told]
        self.standing = self.told[-1] if self.told[-1].outcome is Outcome.DECIDES else self._decided()
        self.is_final = not decider.overridable

    def _decided(self) -> Considered:
        return [each for each in self.told if each.outcome is Outcome.DECIDES][-1]

    def _tell(self, candidate: _Candidate, firsts: list[_Candidate], decider: _Candidate | None) -> None:
        rule = candidate.rule
        if not rule.matches:
            outcome = Outcome.NO_MATCH
        elif candidate.mode is PolicyMode.OBSERVE:
            outcome = Outcome.OBSERVED
        elif candidate is decider:
            outcome = Outcome.PASSED if rule.action is Action.PASS else Outcome.DECIDES
        else:
            outcome = Outcome.WEAKER if candidate in firsts else Outcome.NOT_REACHED
        self.told.append(_told(rule, outcome))
        if outcome is Outcome.OBSERVED and self.observed is None:
            self.observed = self.told[-1]


def _first_match(document: list[_Candidate]) -> _Candidate | None:
    for candidate in document:
        if candidate.rule.matches and candidate.mode is PolicyMode.ENFORCE:
            return candidate
    return None


def _strictness(candidate: _Candidate) -> int:
    """Deny before allow before pass; what may be overridden is weaker as a deny and stricter as an allow."""
    action, overridable = candidate.rule.action, candidate.overridable
    ranks = {(Action.DENY, False): 0, (Action.DENY, True): 1, (Action.ALLOW, True): 2, (Action.ALLOW, False): 3}
    return ranks.get((action, overridable), 4)


def _levels(documents: Iterable[Document]) -> list[list[Document]]:
    """Group policies and flows by tier and order; within a level by name."""
    levels: dict[tuple[int, int], list[Document]] = {}
    for document in sorted((*documents, *QUARANTINE_POLICIES), key=lambda each: each.key):
        if isinstance(document.spec, PolicySpec | FlowSpec):
            place = (list(Tier).index(document.spec.tier), document.spec.order)
            levels.setdefault(place, []).append(document)
    return [levels[place] for place in sorted(levels)]


def _considered(
    asked: _Asked, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[_Candidate]:
    """List the rules of one document that have the asked end as their subject."""
    document, spec = asked.document, asked.document.spec
    if isinstance(spec, FlowSpec):
        flow = _considered_flow if asked.stand is Stand.VM else _considered_far_flow
        return flow(asked, spec, station, direction, peer, protocol, port)
    if not isinstance(spec, PolicySpec) or spec.subject.stand is not asked.stand:
        return []
    if asked.stand is Stand.VM and not _selects(document, spec.tier, spec.subject, station.labels):
        return []
    if asked.stand is Stand.HOST:
        peer = End(PeerKind.VM, "", station)
    inward = _is_inward(asked.stand, direction)
    side = "ingress" if inward else "egress"
    found = []
    for index, rule in enumerate(spec.ingress if inward else spec.egress):
        if rule.service:
            matches = _is_service(asked, spec.tier, rule.service, peer, protocol, port)
        else:
            matches = _any_peer(asked, spec.tier, rule.action, rule.peers, peer) and _any_port(
                rule.ports, protocol, port
            )
        line = document.lines.get(f"spec.{side}[{index}]", document.line)
        key = f"{document.key}/{side}/{rule.name}"
        found.append(_candidate(document, spec, rule.name, rule.action, rule.overridable, matches, line, key))
    return found


def _considered_flow(
    asked: _Asked, spec: FlowSpec, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[_Candidate]:
    """A flow stands at the VMs of its near end, towards the peers of its far end."""
    document = asked.document
    near, far, ports = _flow_ends(asked, spec, direction)
    if not _stands_at(asked, spec, near, station):
        return []
    matches = _any_peer(asked, spec.tier, spec.action, far, peer) and _any_port(ports, protocol, port)
    name = direction.name.lower()
    key = f"{document.key}/{name}/{name}"
    return [_candidate(document, spec, name, spec.action, spec.overridable, matches, document.line, key)]


def _considered_far_flow(
    asked: _Asked, spec: FlowSpec, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[_Candidate]:
    """A flow of the pool's stands at the host and the edge too, if one of its ends means them."""
    document = asked.document
    near, far, ports = _flow_ends(asked, spec, direction)
    host, edge = Peer(host=True), Peer(world=True)
    if asked.stand is Stand.HOST:
        far = tuple(host for each in far if each.host or each.any)
    else:
        far = tuple(edge if each.any else each for each in far if each.world or each.cidr or each.addresses or each.any)
    if spec.tier is Tier.TENANT or not far or not any(each.vm or each.any for each in near):
        return []
    here = _stands_at(asked, spec, near, station)
    matches = here and _any_peer(asked, spec.tier, spec.action, far, peer) and _any_port(ports, protocol, port)
    name = f"{asked.stand}-{direction.name.lower()}"
    key = f"{document.key}/{direction.name.lower()}/{name}"
    return [_candidate(document, spec, name, spec.action, spec.overridable, matches, document.line, key)]


def _flow_ends(
    asked: _Asked, spec: FlowSpec, direction: Direction
) -> tuple[tuple[Peer, ...], tuple[Peer, ...], tuple[Port, ...]]:
    """Give the near end, the far end and the ports."""
    destinations, ports = spec.destinations, spec.ports
    if spec.service:
        service = asked.look_up(Kind.SERVICE, spec.service)
        assert isinstance(service, ServiceSpec)  # noqa: S101 - by its kind
        destinations, ports = (Peer(vm=service.selector),), service.ports
    egress = direction is Direction.EGRESS
    return (spec.sources, destinations, ports) if egress else (destinations, spec.sources, ports)


def _stands_at(asked: _Asked, spec: FlowSpec, near: tuple[Peer, ...], station: Station) -> bool:
    return any(
        each.any or (each.vm is not None and _selects(asked.document, spec.tier, each.vm, station.labels))
        for each in near
    )


def _candidate(
    document: Document,
    spec: PolicySpec | FlowSpec,
    name: str,
    action: Action,
    overridable: bool,
    matches: bool,
    line: int,
    key: str,
) -> _Candidate:
    rule = Considered(
        document.key, document.name, name, spec.tier, action, matches, Outcome.NOT_REACHED, document.file, line, key
    )
    return _Candidate(rule, spec.mode, overridable)


def _selects(document: Document, tier: Tier, selector: Selector, labels: dict[str, str]) -> bool:
    if tier is Tier.TENANT and labels[LABEL_TENANT] != document.tenant:
        return False
    return selector.matches(labels)


def _is_service(asked: _Asked, tier: Tier, name: str, end: End, protocol: int, port: int) -> bool:
    """A service is VMs and ports at once."""
    service = asked.look_up(Kind.SERVICE, name)
    if not isinstance(service, ServiceSpec) or not _is_peer(asked, tier, Peer(vm=service.selector), end):
        return False
    return _any_port(service.ports, protocol, port)


def _any_peer(asked: _Asked, tier: Tier, action: Action, peers: tuple[Peer, ...], end: End) -> bool:
    """No peers: everyone. Groups are opened only by name, so only a denial of everyone means them too."""
    everyone = not peers or any(peer.any for peer in peers)
    if everyone and (end.kind is not PeerKind.GROUP or action is Action.DENY):
        return True
    return any(_is_peer(asked, tier, peer, end) for peer in peers)


def _is_peer(asked: _Asked, tier: Tier, peer: Peer, end: End) -> bool:
    if peer.vm is not None:
        whose = end.station or end.visitor
        return whose is not None and _selects(asked.document, tier, peer.vm, whose.labels)
    if peer.addresses:
        group = asked.look_up(Kind.ADDRESS_GROUP, peer.addresses)
        assert isinstance(group, AddressGroupSpec)  # noqa: S101 - by its kind
        return any(_is_outside(end, cidr, group.excluded) for cidr in group.cidrs)
    if peer.cidr:
        return _is_outside(end, peer.cidr, peer.excluded)
    return end.kind is {peer.world: PeerKind.WORLD, peer.host: PeerKind.HOST, peer.group: PeerKind.GROUP}.get(True)


def _is_outside(end: End, cidr: str, excluded: tuple[str, ...]) -> bool:
    if end.kind is not PeerKind.WORLD or not end.address or not _inside(end.address, cidr):
        return False
    return not any(_inside(end.address, part) for part in excluded)


def _any_port(ports: tuple[Port, ...], protocol: int, number: int) -> bool:
    return not ports or any(_is_port(port, protocol, number) for port in ports)


def _is_port(port: Port, protocol: int, number: int) -> bool:
    if port.protocol == "any":
        return True
    if PROTOCOLS[port.protocol] != protocol:
        return False
    low, high = port.span()
    return low <= number <= high


def _inside(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _is_broadcast(pool: Pool, network: str, address: str) -> bool:
    cidrs = [ipaddress.ip_network(cidr) for each in pool.networks if each.name == network for cidr in each.cidrs]
    return any(cidr.version == 4 and cidr.prefixlen < 31 and str(cidr.broadcast_address) == address for cidr in cidrs)


def _host_addresses(pool: Pool) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Those of revoked hosts too: what is no member any more is still no guest's peer."""
    return {ipaddress.ip_address(each) for host in pool.hosts for each in (*host.addresses, host.fabric) if each}


def _told(rule: Considered, outcome: Outcome) -> Considered:
    return msgspec.structs.replace(rule, outcome=outcome)
