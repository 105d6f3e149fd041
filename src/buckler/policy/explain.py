"""Why one packet passes or not, at both ends, in words. Tells what the reference evaluator judged; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.ids import VmId
from buckler.model.operatorapi.answers import ExplainedPath, Explanation, Side, Step
from buckler.model.pool import Network, Outsider, ShieldMode
from buckler.model.program import Direction, Verdict
from buckler.policy.judgement import UNREACHABLE, Considered, End, EndJudgement, Outcome, PeerKind
from buckler.policy.language import PROTOCOLS, Document, Kind, Stand
from buckler.policy.learned import group_of, patterns_of
from buckler.policy.party import HOST, WORLD, UnknownEnd, find_thing, unknown_end
from buckler.policy.pool import Pool, Station, Visitor, singled_out, stations_of, visitor_of
from buckler.policy.prefix import address_of, network_of
from buckler.policy.reference import find_end, judge_parts
from buckler.policy.timing import write_moment
from buckler.policy.unpoliced import control_traffic, families_of, why_martian

GROUP = "group"


ANY_FAMILY = frozenset({4, 6})
SAME = "an interface does not send to itself: such packets stay within the VM"


class NoSuchPacket(ValueError):
    """No packet can be what was asked about; the message says why, and what to ask."""


class _Asked(msgspec.Struct, frozen=True):
    """One end as a person named it: a VM's interfaces, or an outside peer. ``families``: IP versions that it can speak."""

    text: str
    stations: tuple[Station, ...] = ()
    address: str = ""
    kind: PeerKind = PeerKind.WORLD
    visitor: Visitor | None = None
    families: frozenset[int] = ANY_FAMILY


def explain(
    pool: Pool, documents: Iterable[Document], origin: str, to: str, protocol: str, port: int, tenant: str = ""
) -> Explanation:
    """Explain a first packet. Ends: a VM (``name``, ``tenant/name`` or id), an address, ``world``, ``host``, ``group``.

    ``tenant``: whose a name alone is. ``protocol`` is a name of ``PROTOCOLS`` or a number as text; ``port`` the destination port, or type << 8 | code.
    Raises UnknownEnd, NoSuchPacket.
    """
    documents = tuple(documents)
    number = protocol_number(protocol)
    source, destination = (_asked(pool, documents, each, tenant) for each in (origin, to))
    _refuse_impossible(source, destination, protocol, number)
    paths = tuple(_paths(pool, documents, source, destination, number, port))
    verdict = "allow" if any(path.verdict == "allow" for path in paths) else "deny"
    text = _summary(source, destination, paths, verdict, _asked_words(protocol, port))
    return Explanation(origin, to, protocol, port, verdict, text, paths)


def protocol_number(text: str) -> int:
    """Read a protocol as people write it. Raises UnknownEnd."""
    for name, number in PROTOCOLS.items():
        if name.lower() == text.lower():
            return number
    if text.isdecimal() and int(text) < 256:
        return int(text)
    raise UnknownEnd(f"no protocol {text!r}: one of {', '.join(PROTOCOLS)}, or a number up to 255")


def _asked_words(protocol: str, port: int) -> str:
    return f"{protocol} type {port >> 8} code {port & 0xFF}" if protocol.startswith("ICMP") else f"{protocol} {port}"


def _asked(pool: Pool, documents: tuple[Document, ...], text: str, tenant: str) -> _Asked:
    if text == WORLD:
        return _Asked(text)
    if text == GROUP:
        return _Asked(text, kind=PeerKind.GROUP)
    if text == HOST:
        if not any(network.gateway for network in pool.networks if tenant in {"", network.tenant}):
            raise UnknownEnd("no network has a gateway that the host serves (spec.gateway)")
        served = _families(address for network in pool.networks for address in network.gateway)
        return _Asked(text, kind=PeerKind.HOST, families=served)
    networks = {network.name: network for network in pool.networks}
    is_full = "/" in text or any(vm.id == text for vm in pool.vms)
    thing = find_thing(pool, text, "" if is_full else tenant)
    if isinstance(thing, Outsider):
        visitor = visitor_of(thing, networks, singled_out(documents))
        return _Asked(text, kind=PeerKind.ENDPOINT, visitor=visitor, families=_families(thing.addresses))
    if thing is not None:
        mine = tuple(stations_of(thing, networks, singled_out(documents)))
        return _Asked(text, mine, kind=PeerKind.VM)
    try:
        address = str(address_of(text))
    except ValueError:
        hint = "ask by one address of it; who-can-reach takes prefixes" if _is_prefix(text) else ""
        raise unknown_end(pool, text, tenant, hint=hint) from None
    return _Asked(text, address=address, families=_families([address]))


def _families(addresses: Iterable[str]) -> frozenset[int]:
    return frozenset(address_of(each).version for each in addresses)


def _refuse_impossible(source: _Asked, destination: _Asked, protocol: str, number: int) -> None:
    carrying = families_of(number)
    for asked in (source, destination):
        if not asked.families & carrying:
            other = {"ICMP": "icmpv6", "ICMPv6": "icmp"}.get(protocol)
            hint = f" (ask about {other}, or another end)" if other else ""
            raise NoSuchPacket(f"{protocol} is not sent over {_speaks(asked)}, and {asked.text} has nothing else{hint}")
    if not source.families & destination.families:
        told = ", ".join(f"{asked.text} has {_speaks(asked)} alone" for asked in (source, destination))
        raise NoSuchPacket(f"no packet has both ends: {told} (name addresses of one family)")


def _speaks(asked: _Asked) -> str:
    return " and ".join(f"IPv{each}" for each in sorted(asked.families))


def _is_prefix(text: str) -> bool:
    try:
        return bool(network_of(text))
    except ValueError:
        return False


def _paths(
    pool: Pool, documents: tuple[Document, ...], source: _Asked, destination: _Asked, protocol: int, port: int
) -> Iterable[ExplainedPath]:
    for network in pool.networks:
        for one in _ends(pool, documents, source, network, is_source=True):
            for other in _ends(pool, documents, destination, network):
                sides: list[EndJudgement] = []
                if one.station:
                    sides += _judge(documents, one.station, Direction.EGRESS, other, protocol, port)
                if other.station and other.station != one.station:
                    sides += _judge(documents, other.station, Direction.INGRESS, one, protocol, port)
                if sides:
                    passes = all(_passes(side) for side in sides)
                    told = tuple(_with_answers(_side(side), side, documents, pool) for side in sides)
                    verdict = "allow" if passes else "deny"
                    yield ExplainedPath(network.name, name_end(one), name_end(other), verdict, told)


def _judge(
    documents: tuple[Document, ...], station: Station, direction: Direction, peer: End, protocol: int, port: int
) -> tuple[EndJudgement, ...]:
    """Judge by policy, unless shields decide before they ask any."""
    blank = EndJudgement(station, peer, direction, False, None, None, ())
    if peer.station == station:
        itself = End(PeerKind.MARTIAN, peer.address, station)
        return (msgspec.structs.replace(blank, peer=itself, because=SAME),)
    control = control_traffic(protocol, port)
    observed = control is not None and control.is_soft and station.vm.mode is ShieldMode.OBSERVE
    if control is None or observed or peer.kind in UNREACHABLE:
        return judge_parts(documents, station, direction, peer, protocol, port)
    return (msgspec.structs.replace(blank, allowed=control.passes, because=control.text),)


def _ends(
    pool: Pool, documents: tuple[Document, ...], asked: _Asked, network: Network, *, is_source: bool = False
) -> list[End]:
    """Give what the asked end is, seen in one network."""
    if asked.kind is PeerKind.VM:
        here = [each for each in asked.stations if each.network.name == network.name]
        return [End(PeerKind.VM, each.addresses[0], each) for each in here]
    if asked.kind is PeerKind.ENDPOINT:
        visitor = asked.visitor
        here_too = visitor is not None and visitor.network.name == network.name
        return [End(PeerKind.ENDPOINT, visitor.outsider.addresses[0], visitor=visitor)] if visitor and here_too else []
    if asked.kind is PeerKind.HOST:
        return [End(PeerKind.HOST, network.gateway[0])] if network.gateway else []
    if not asked.address:
        return [End(asked.kind, "")]
    end = find_end(pool, documents, network.name, asked.address, is_source=is_source)
    elsewhere = end.kind is PeerKind.WORLD and _owned_elsewhere(pool, asked.address, network)
    return [] if elsewhere else [end]


def _owned_elsewhere(pool: Pool, address: str, network: Network) -> bool:
    """Say whether an address is in other networks' room only, so that asking here is beside the point.

    Networks may have one and the same room: then the address is outside in each of them.
    """
    parsed = address_of(address)
    owners = {
        each.name
        for each in pool.networks
        for cidr in each.cidrs
        if parsed.version == network_of(cidr).version and parsed in network_of(cidr)
    }
    return bool(owners) and network.name not in owners


def name_end(end: End) -> str:
    """Name an end: the VM, or what kind of outside peer it is."""
    if end.station is not None:
        return end.station.vm.name
    if end.visitor is not None:
        return f"{end.visitor.outsider.name} (an endpoint, known by its address {end.address} alone)"
    return f"{end.kind.value} ({end.address})" if end.address else end.kind.value


def _with_answers(side: Side, judged: EndJudgement, documents: tuple[Document, ...], pool: Pool) -> Side:
    """Name the answers for names by which the deciding rule means an address."""
    rule, network = judged.rule, judged.station.network.name
    if rule is None or not judged.allowed or judged.peer.kind is not PeerKind.WORLD:
        return side
    named, vms = {each.key: each for each in documents}, {vm.id: vm.name for vm in pool.vms}
    document = named.get(rule.document)
    found = [
        f" {each.address} was the answer for {each.name} (meant by {pattern}) that VM {vms.get(VmId(each.vm), each.vm)} got from {each.resolver}"
        f" at {write_moment(int(each.at))}."
        for pattern in sorted(patterns_of(document) if document is not None else ())
        for each in group_of(pattern, named)
        if each.network == network and each.address == judged.peer.address
    ]
    return msgspec.structs.replace(side, text=side.text + "".join(dict.fromkeys(found)))


def _side(judged: EndJudgement) -> Side:
    rule = judged.rule
    return Side(
        vm=judged.station.vm.name,
        direction=judged.direction.name.lower(),
        verdict=judged.verdict.name.lower(),
        text=side_text(judged),
        tier=rule.tier.value if rule else "",
        policy=rule.policy if rule else "",
        rule=rule.rule if rule else "",
        file=rule.file if rule else "",
        line=rule.line if rule else 0,
        steps=tuple(
            Step(each.tier.value, each.policy, each.rule, each.action.value, each.outcome.value, each.file, each.line)
            for each in judged.considered
        ),
        mode=judged.mode,
        until=judged.until,
        staged=judged.staged.verdict.name.lower() if judged.staged else "",
        at="" if judged.at is Stand.VM else judged.at.value,
    )


def side_text(judged: EndJudgement) -> str:
    """Say in one sentence what one shield does and why."""
    way = "sending to" if judged.direction is Direction.EGRESS else "receiving from"
    head = f"The shield of {judged.station.vm.name}, {way} {name_end(judged.peer)}, "
    if judged.at is not Stand.VM:
        head = f"There, for the {judged.at}'s own end, it "
    if judged.peer.kind is PeerKind.INFRA:
        return head + "denies: addresses of hypervisor hosts are no guest's peers, and no policy can open them."
    if judged.peer.kind is PeerKind.MARTIAN or judged.because:
        is_source = judged.direction is Direction.INGRESS
        why = judged.because or why_martian(judged.peer.address, is_source=is_source)
        return head + f"{'lets pass' if judged.allowed else 'drops'}, before any policy is asked: {why}."
    if judged.rule is None and judged.allowed:
        text = head + "has no say yet: only staged policies ask it."
    elif judged.rule is None:
        matching = [each for each in judged.considered if each.matches and each.outcome is Outcome.PASSED]
        why = "every matching rule passed it on, and nothing below allowed it" if matching else "no rule matches"
        text = head + f"denies by default: {why}."
        skipped = [each for each in judged.considered if each.matches and each.outcome is Outcome.NOT_REACHED]
        unasked = [each for each in skipped if each.tier in {one.tier for one in matching}]
        text += (
            f" {_named(unasked[0])} was not asked: a pass ends its tier.".replace(" rule", " Rule", 1)
            if unasked
            else ""
        )
    else:
        text = head + f"{_verb(judged)}: {_named(judged.rule)} decides."
    text += _terms_text(judged)
    if judged.observed is not None:
        seen = judged.observed
        text += f" Observed only: rule {seen.rule} of policy {seen.policy} would {seen.action.value}."
    if not judged.allowed and judged.mode is ShieldMode.OBSERVE:
        text += " The VM is in observe mode, so the packet passes and is recorded."
    return text


def _verb(judged: EndJudgement) -> str:
    if judged.verdict is Verdict.REJECT:
        return "rejects, with an answer"
    return "allows" if judged.allowed else "denies"


def _named(rule: Considered) -> str:
    place = f"{rule.file} line {rule.line}" if rule.line else "built in"
    what = "exception" if rule.document.startswith(f"{Kind.EXCEPTION}/") else "policy"
    return f"rule {rule.rule} of {what} {rule.policy} in the {rule.tier.value} tier ({place})"


def _terms_text(judged: EndJudgement) -> str:
    """Say until when, how often and with what record; and what the draft would say."""
    text = f" Until {write_moment(judged.until)}: the kernel ends it by itself then." if judged.until else ""
    if judged.connections:
        text += f" At most {judged.connections} new connections in {judged.within} s at the interface."
    text += " Every first packet of it is recorded." if judged.log else ""
    later = [each for each in judged.considered if each.matches and each.outcome is Outcome.INACTIVE]
    text += "".join(f" Not in force at this time: {_named(each)} would {each.action.value}." for each in later[:3])
    if judged.staged is None:
        return text
    draft = judged.staged
    verdict = {Verdict.ALLOW: "allowed", Verdict.DENY: "denied", Verdict.REJECT: "rejected"}[draft.verdict]
    return (
        text + f" Staged: {verdict} by {_named(draft.rule) if draft.rule else 'default: no rule of the draft decides'}."
    )


def _passes(judged: EndJudgement) -> bool:
    is_hard = judged.peer.kind in UNREACHABLE or bool(judged.because)
    return judged.allowed or (judged.mode is ShieldMode.OBSERVE and not is_hard)


def _summary(source: _Asked, destination: _Asked, paths: tuple[ExplainedPath, ...], verdict: str, what: str) -> str:
    if not paths:
        for asked in (source, destination):
            if asked.kind is PeerKind.VM and not asked.stations:
                return f"{asked.text} has no interface in a known network of its tenant: its ports stay closed."
        if not source.stations and not destination.stations:
            return "Neither end is a VM of the pool: no shield stands between them."
        return f"{source.text} and {destination.text} have no network in common: nothing passes between them."
    word = "passes" if verdict == "allow" else "is refused"
    denying = [side for path in paths for side in path.sides if side.verdict != "allow"]
    enforcing = [side for side in denying if side.mode is ShieldMode.ENFORCE] or denying  # whoever observes lets pass
    refused = [side.vm + (f" (for the {side.at})" if side.at else "") for side in enforcing]
    where = f" by the shield of {' and of '.join(dict.fromkeys(refused))}" if verdict == "deny" else ""
    return f"{what} from {source.text} to {destination.text} {word}{where}."
