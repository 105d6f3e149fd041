"""The meaning of the policy language in plain Python: what every other part is checked against.

Judges one packet by walking documents as they are written. Owns no tables, no numbers and no speed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from buckler.model.program import Direction, Verdict
from buckler.policy.judgement import (
    UNREACHABLE,
    Considered,
    Drafted,
    End,
    EndJudgement,
    Judgement,
    Outcome,
    PeerKind,
    verdict_of,
)
from buckler.policy.judging import DRAFTED, Candidate, Levels, find_end_of_allowance, walk
from buckler.policy.language import (
    Action,
    Document,
    ExceptionSpec,
    FlowSpec,
    Kind,
    Peer,
    PolicyMode,
    PolicySpec,
    Port,
    RuleSpec,
    ServiceSpec,
    Stand,
    Tier,
    Yielding,
)
from buckler.policy.meaning import Asked, answers_among, means_any, means_port, means_service, selects, stands_at
from buckler.policy.packet import Packet
from buckler.policy.pool import Pool, Station, singled_out, stations, visitors
from buckler.policy.quarantine import QUARANTINE_POLICIES
from buckler.policy.times import Times, ended
from buckler.policy.timing import rule_times, times_said
from buckler.policy.unpoliced import is_group, why_martian


def judge(pool: Pool, documents: Iterable[Document], packet: Packet) -> Judgement:
    """Judge the first packet of a connection: allowed iff the sender's egress and the receiver's ingress allow it."""
    documents = tuple(documents)
    source = find_end(pool, documents, packet.network, packet.source, is_source=True)
    destination = find_end(pool, documents, packet.network, packet.destination)
    egress = ingress = None
    if source.station:
        egress = judge_end(documents, source.station, Direction.EGRESS, destination, packet.protocol, packet.port)
    if destination.station:
        ingress = judge_end(documents, destination.station, Direction.INGRESS, source, packet.protocol, packet.port)
    ends = [end for end in (egress, ingress) if end is not None]
    return Judgement(bool(ends) and all(end.allowed for end in ends), egress, ingress)


def find_end(pool: Pool, documents: Iterable[Document], network: str, address: str, *, is_source: bool = False) -> End:
    """Find whose address it is, seen from within ``network``."""
    parsed = ipaddress.ip_address(address)
    served = {ipaddress.ip_address(gateway) for each in pool.networks for gateway in each.gateway}
    if parsed in _host_addresses(pool) - served:
        return End(PeerKind.INFRA, address)
    if why_martian(address, is_source=is_source):
        return End(PeerKind.MARTIAN, address)
    if is_group(address) or _is_broadcast(pool, network, address):
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
        told, rated = own if other.allowed or not own.allowed else other, own if own.connections else other
        considered = (*own.considered, *other.considered)
        observed = own.observed or other.observed
        ends = [each.until for each in (own, other) if each.until]
        allowed = own.allowed and other.allowed
        own = EndJudgement(
            station=station,
            peer=peer,
            direction=direction,
            allowed=allowed,
            rule=told.rule,
            observed=observed,
            considered=considered,
            at=own.at,
            until=min(ends, default=0) if allowed else 0,
            staged=_drafted_at_both(own, other) if own.staged or other.staged else None,
            log=own.log or other.log if allowed else told.log,
            connections=rated.connections if allowed else 0,
            within=rated.within if allowed else 0,
        )
    return own


def _drafted_at_both(own: EndJudgement, other: EndJudgement) -> Drafted:
    drafts = own.drafted, other.drafted
    return next((each for each in drafts if each.verdict is not Verdict.ALLOW), drafts[0])


def judge_parts(
    documents: Iterable[Document], station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> tuple[EndJudgement, ...]:
    """Judge by end: tier after tier, order after order, each document's first match, the strictest wins."""
    if peer.kind in UNREACHABLE:
        return (EndJudgement(station, peer, direction, False, None, None, ()),)
    documents = tuple(documents)
    far = {PeerKind.HOST: Stand.HOST, PeerKind.WORLD: Stand.EDGE}.get(peer.kind)
    ends = [Stand.VM, *([far] if far and _is_asked(documents, far, direction, DRAFTED) else [])]
    named = {each.key: each for each in documents if each.kind in {Kind.ADDRESS_GROUP, Kind.SERVICE}}
    exceptions = tuple(each for each in documents if each.kind is Kind.EXCEPTION)
    found = []
    for stand in ends:
        network = station.network.name
        asked = [
            [Asked(document, named, stand, exceptions, network) for document in level] for level in _levels(documents)
        ]
        levels = [
            [_with_exceptions(each, station, direction, peer, protocol, port) for each in level] for level in asked
        ]
        said = _judged(levels, EndJudgement(station, peer, direction, False, None, None, (), stand))
        if stand is not Stand.VM and not _is_asked(documents, stand, direction, frozenset({PolicyMode.ENFORCE})):
            said = EndJudgement(station, peer, direction, True, None, None, (), stand, staged=said.drafted)
        found.append(said)
    return tuple(found)


def _judged(levels: Levels, blank: EndJudgement) -> EndJudgement:
    """Judge by what holds now; say until when, and what the draft of all that is staged would say."""
    now = walk(levels)
    staged = None
    if any(candidate.mode is PolicyMode.STAGED for level in levels for document in level for candidate in document):
        draft = walk(levels, DRAFTED)
        staged = Drafted(verdict_of(draft.allowed, draft.standing), draft.standing)
    return msgspec.structs.replace(
        blank,
        allowed=now.allowed,
        rule=now.standing,
        observed=now.observed,
        considered=tuple(now.told),
        until=find_end_of_allowance(levels) if now.allowed else 0,
        staged=staged,
        log=now.standing is not None and now.standing.log,
        connections=now.standing.connections if now.standing is not None and now.allowed else 0,
        within=now.standing.within if now.standing is not None and now.allowed else 0,
    )


def _is_asked(documents: Iterable[Document], stand: Stand, direction: Direction, modes: frozenset[PolicyMode]) -> bool:
    """The host and the edge have a say where some policy that decides has them as its subject, and deny by default then."""
    specs = [each.spec for each in documents if isinstance(each.spec, PolicySpec)]
    here = [each for each in specs if each.subject.stand is stand and each.mode in modes]
    return any(each.ingress if _is_inward(stand, direction) else each.egress for each in here)


def _is_inward(stand: Stand, direction: Direction) -> bool:
    """Say whether a VM's direction is ``ingress`` in a policy: the host receives what a VM sends; the edge sees it as VMs do."""
    return (direction is Direction.INGRESS) is not (stand is Stand.HOST)


def _levels(documents: Iterable[Document]) -> list[list[Document]]:
    """Group policies and flows by tier and order; within a level by name."""
    levels: dict[tuple[int, int], list[Document]] = {}
    for document in sorted((*documents, *QUARANTINE_POLICIES), key=lambda each: each.key):
        if isinstance(document.spec, PolicySpec | FlowSpec):
            place = (list(Tier).index(document.spec.tier), document.spec.order)
            levels.setdefault(place, []).append(document)
    return [levels[place] for place in sorted(levels)]


def _with_exceptions(
    asked: Asked, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[Candidate]:
    """List the rules of one document, each behind the exceptions that name it."""
    found = []
    for candidate in _considered(asked, station, direction, peer, protocol, port):
        for written in asked.exceptions if asked.stand is Stand.VM else ():
            if _is_excepted(asked.document, candidate, written):
                found.append(_exception(asked, candidate, written, station, direction, peer, protocol, port))
        found.append(candidate)
    return found


def _is_excepted(document: Document, candidate: Candidate, written: Document) -> bool:
    """An exception touches the one policy or flow of its own tenant that it names, and of its tier; nothing else."""
    spec, policy = written.spec, document.spec
    if not isinstance(spec, ExceptionSpec) or written.tenant != document.tenant:
        return False
    if isinstance(policy, PolicySpec):
        is_named = (spec.policy, spec.rule, spec.flow) == (document.name, candidate.rule.rule, "")
    else:
        is_named = (spec.policy, spec.flow) == ("", document.name)
    if not is_named or spec.tier is not candidate.rule.tier or candidate.rule.tier is Tier.QUARANTINE:
        return False
    if candidate.mode is PolicyMode.OBSERVE:
        return False  # what decides nothing needs no exception
    if spec.action is Yielding.DISABLE:
        return True
    return candidate.rule.action in {Action.DENY, Action.REJECT} and candidate.rule.tier is not Tier.PLATFORM


def _exception(
    asked: Asked,
    candidate: Candidate,
    written: Document,
    station: Station,
    direction: Direction,
    peer: End,
    protocol: int,
    port: int,
) -> Candidate:
    """It means what the rule means, less what it leaves out itself. Who is named of a tenant's is of that tenant."""
    spec, document, tier = written.spec, asked.document, candidate.rule.tier
    assert isinstance(spec, ExceptionSpec)  # noqa: S101 - asked before
    near, far = (
        (spec.sources, spec.destinations) if direction is Direction.EGRESS else (spec.destinations, spec.sources)
    )
    if spec.subject is not None:
        is_here = selects(document, tier, spec.subject, station.labels)
    elif near:  # a policy's near end is its subject
        is_here = isinstance(document.spec, FlowSpec) and stands_at(asked, tier, near, station)
    else:
        is_here = True
    meant = means_any(asked, tier, Action.ALLOW, far, peer) and means_port(spec.ports, protocol, port)
    rule = msgspec.structs.replace(
        candidate.rule,
        document=written.key,
        policy=written.name,
        action=Action.ALLOW if spec.action is Yielding.ALLOW else Action.PASS,
        matches=candidate.rule.matches and is_here and meant,
        file=written.file,
        line=written.line,
        key=f"{written.key}/{direction.name.lower()}/{candidate.rule.rule}",
        log=spec.log,
        connections=0,
        within=0,
    )
    return Candidate(rule, candidate.mode, False, times_said(written), yielding=candidate.rule.key)


def _considered(
    asked: Asked, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[Candidate]:
    """List the rules of one document that have the asked end as their subject."""
    document, spec = asked.document, asked.document.spec
    if isinstance(spec, FlowSpec):
        flow = _considered_flow if asked.stand is Stand.VM else _considered_far_flow
        return flow(asked, spec, station, direction, peer, protocol, port)
    if not isinstance(spec, PolicySpec) or spec.subject.stand is not asked.stand:
        return []
    if asked.stand is Stand.VM and not selects(document, spec.tier, spec.subject, station.labels):
        return []
    if asked.stand is Stand.HOST:
        peer = End(PeerKind.VM, "", station)
    inward = _is_inward(asked.stand, direction)
    side = "ingress" if inward else "egress"
    found = []
    for index, rule in enumerate(spec.ingress if inward else spec.egress):
        if rule.service:
            matches = means_service(asked, spec.tier, rule.service, peer, protocol, port)
        else:
            matches = means_any(asked, spec.tier, rule.action, rule.peers, peer) and means_port(
                rule.ports, protocol, port
            )
        line = document.lines.get(f"spec.{side}[{index}]", document.line)
        key = f"{document.key}/{side}/{rule.name}"
        made = _candidate(document, spec, rule.name, rule, matches, line, key)
        found.append(_while_learned(made, asked, spec.tier, rule.peers, peer))
    return found


def _considered_flow(
    asked: Asked, spec: FlowSpec, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[Candidate]:
    """A flow stands at the VMs of its near end, towards the peers of its far end."""
    document = asked.document
    near, far, ports = _flow_ends(asked, spec, direction)
    if not stands_at(asked, spec.tier, near, station):
        return []
    matches = means_any(asked, spec.tier, spec.action, far, peer) and means_port(ports, protocol, port)
    name = direction.name.lower()
    key = f"{document.key}/{name}/{name}"
    made = _candidate(document, spec, name, spec, matches, document.line, key)
    return [_while_learned(made, asked, spec.tier, far, peer)]


def _considered_far_flow(
    asked: Asked, spec: FlowSpec, station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> list[Candidate]:
    """A flow of the pool's stands at the host and the edge too, if one of its ends means them."""
    document = asked.document
    near, far, ports = _flow_ends(asked, spec, direction)
    host, edge = Peer(host=True), Peer(world=True)
    if asked.stand is Stand.HOST:
        far = tuple(host for each in far if each.host or each.any)
    else:
        outside = tuple(each for each in far if each.world or each.cidr or each.addresses or each.dns or each.any)
        far = tuple(edge if each.any else each for each in outside)
    if spec.tier is Tier.TENANT or not far or not any(each.vm or each.any for each in near):
        return []
    here = stands_at(asked, spec.tier, near, station)
    matches = here and means_any(asked, spec.tier, spec.action, far, peer) and means_port(ports, protocol, port)
    name = f"{asked.stand}-{direction.name.lower()}"
    key = f"{document.key}/{direction.name.lower()}/{name}"
    made = _candidate(document, spec, name, spec, matches, document.line, key)
    return [_while_learned(made, asked, spec.tier, far, peer)]


def _flow_ends(
    asked: Asked, spec: FlowSpec, direction: Direction
) -> tuple[tuple[Peer, ...], tuple[Peer, ...], tuple[Port, ...]]:
    """Give the near end, the far end and the ports."""
    destinations, ports = spec.destinations, spec.ports
    if spec.service:
        service = asked.look_up(Kind.SERVICE, spec.service)
        assert isinstance(service, ServiceSpec)  # noqa: S101 - by its kind
        destinations, ports = (Peer(vm=service.selector),), service.ports
    egress = direction is Direction.EGRESS
    return (spec.sources, destinations, ports) if egress else (destinations, spec.sources, ports)


def _while_learned(candidate: Candidate, asked: Asked, tier: Tier, peers: tuple[Peer, ...], end: End) -> Candidate:
    """What matches by an answer alone holds until the last such answer ends."""
    known = tuple(peer for peer in peers if not peer.dns)
    if not candidate.rule.matches or (known and means_any(asked, tier, candidate.rule.action, known, end)):
        return candidate
    ends = [each.until for each in answers_among(asked, peers, end)]
    if not ends or 0 in ends:
        return candidate
    return msgspec.structs.replace(candidate, times=ended(candidate.times or Times(((0, 0),)), max(ends)))


def _candidate(
    document: Document,
    spec: PolicySpec | FlowSpec,
    name: str,
    rule: RuleSpec | FlowSpec,
    matches: bool,
    line: int,
    key: str,
) -> Candidate:
    considered = Considered(
        document=document.key,
        policy=document.name,
        rule=name,
        tier=spec.tier,
        action=rule.action,
        matches=matches,
        outcome=Outcome.NOT_REACHED,
        file=document.file,
        line=line,
        key=key,
        log=rule.log,
        connections=rule.rate_limit.connections if rule.rate_limit else 0,
        within=rule.rate_limit.within if rule.rate_limit else 0,
    )
    times = times_said(document)
    if isinstance(rule, RuleSpec):
        times = rule_times(document, key.removeprefix(f"{document.key}/"), rule.until)
    return Candidate(considered, spec.mode, rule.overridable, times)


def _is_broadcast(pool: Pool, network: str, address: str) -> bool:
    cidrs = [ipaddress.ip_network(cidr) for each in pool.networks if each.name == network for cidr in each.cidrs]
    return any(cidr.version == 4 and cidr.prefixlen < 31 and str(cidr.broadcast_address) == address for cidr in cidrs)


def _host_addresses(pool: Pool) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Those of revoked hosts too: what is no member any more is still no guest's peer."""
    return {ipaddress.ip_address(each) for host in pool.hosts for each in (*host.addresses, host.fabric) if each}
