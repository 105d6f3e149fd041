"""Documents → one flat, ordered list of rules, flows expanded to both ends. Owns the order; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from buckler.model.canonical import canonical_bytes
from buckler.model.label import LABEL_TENANT, Expression, Operator, Selector
from buckler.model.program import Direction
from buckler.policy.compose import compose_documents
from buckler.policy.language import (
    DENIALS,
    PROTOCOLS,
    TIER_RANK,
    Action,
    Document,
    ExceptionSpec,
    FlowSpec,
    Peer,
    PolicyMode,
    PolicySpec,
    Port,
    RuleSpec,
    Stand,
    Tier,
    Yielding,
)
from buckler.policy.learned import LearnedPeer
from buckler.policy.quarantine import QUARANTINE_POLICIES
from buckler.policy.times import Times, ended
from buckler.policy.timing import rule_times, times_said


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Destination ports (or type << 8 | code) of one protocol, both ends included."""

    protocol: int
    low: int
    high: int


class Rule(msgspec.Struct, frozen=True):
    """One rule at one end. ``key`` names it for good; ``peers`` and ``spans`` empty mean any.

    Rules that differ only in the subject (a flow from several selectors) share their key.
    """

    key: str
    document: str
    policy: str
    name: str
    tier: Tier
    order: int
    mode: PolicyMode
    direction: Direction
    subject: Selector
    action: Action
    overridable: bool
    peers: tuple[Peer, ...]
    spans: tuple[Span, ...]
    file: str
    line: int
    place: tuple[int, int]
    """Tier and order: rules with equal ones form one level."""
    stand: Stand = Stand.VM
    """Whose end is asked. ``direction`` and ``subject`` are the VM's all the same: its shield enforces the answer."""
    is_opinion: bool = False
    """Of a policy that has the host or the edge as its subject: that end denies by default then."""
    times: Times | None = None
    log: bool = False
    connections: int = 0
    within: int = 0
    yielding: str = ""
    """An exception's: the key of the rule that yields. ``pass``: it is taken for none; ``allow``: this stands in its place."""


def list_rules(documents: Iterable[Document]) -> tuple[Rule, ...]:
    """Expand every Policy and Flow, and the built-in quarantine, in the order of judging."""
    rules: list[Rule] = []
    for document in sorted((*compose_documents(documents), *QUARANTINE_POLICIES), key=lambda each: each.key):
        rules += expand_document(document)
    return tuple(sorted(rules, key=lambda rule: rule.place))


def expand_document(document: Document) -> list[Rule]:
    """Expand one composed document; all of its rules have one place. Raises Untimed."""
    times_said(document)
    spec = document.spec
    if not isinstance(spec, PolicySpec | FlowSpec):
        return []
    rules = _policy_rules(document, spec) if isinstance(spec, PolicySpec) else _flow_rules(document, spec)
    excepted = [each for written in document.exceptions for each in _exceptions(document, written, rules)]
    return [part for rule in (*rules, *excepted) for part in _by_end(rule)]


def _by_end(rule: Rule) -> Iterator[Rule]:
    """Tell a rule's learned answers apart by their ends, one behind the other: they share its key."""
    ends: dict[int, list[Peer]] = {}
    for peer in rule.peers:
        if isinstance(peer, LearnedPeer):
            ends.setdefault(peer.until, []).append(peer)
    if not ends:
        yield rule
        return
    yield msgspec.structs.replace(rule, peers=tuple(each for each in rule.peers if not isinstance(each, LearnedPeer)))
    for until, peers in sorted(ends.items()):
        times = ended(rule.times or Times(((0, 0),)), until) if until else rule.times
        yield msgspec.structs.replace(rule, peers=tuple(peers), times=times)


def end_of(rule: Rule) -> int:
    """Say which of the rules with one key this is: the end of its learned answers; -1: the rule itself."""
    return next((peer.until for peer in rule.peers if isinstance(peer, LearnedPeer)), -1)


def _policy_rules(document: Document, spec: PolicySpec) -> list[Rule]:
    if spec.subject.stand is not Stand.VM:
        return _far_policy_rules(document, spec, spec.subject.stand)
    subject = _scoped(document, spec.tier, spec.subject)
    sides: tuple[tuple[Direction, Sequence[RuleSpec]], ...] = (
        (Direction.INGRESS, spec.ingress),
        (Direction.EGRESS, spec.egress),
    )
    rules = []
    for direction, written in sides:
        for index, rule in enumerate(written):
            line = document.lines.get(f"spec.{direction.name.lower()}[{index}]", document.line)
            times = rule_times(document, f"{direction.name.lower()}/{rule.name}", rule.until)
            if times is None or times.windows:
                rules.append(_rule(document, spec, direction, subject, rule, line))
    return rules


def _far_policy_rules(document: Document, spec: PolicySpec, stand: Stand) -> list[Rule]:
    """What the host receives a VM sends, and the other way round; what comes in at the edge comes in at a VM."""
    written: tuple[tuple[str, Sequence[RuleSpec]], ...] = (("ingress", spec.ingress), ("egress", spec.egress))
    rules = []
    for side, here in written:
        for index, rule in enumerate(here):
            line = document.lines.get(f"spec.{side}[{index}]", document.line)
            inward = (side == "ingress") is (stand is Stand.EDGE)
            direction = Direction.INGRESS if inward else Direction.EGRESS
            subjects: tuple[Selector, ...] = (Selector(),)
            if stand is Stand.HOST and not _means_everyone(rule.peers):
                subjects = tuple(peer.vm for peer in rule.peers if peer.vm is not None) or (_NO_VM,)
            peers = _far_peers(stand, rule.peers or (Peer(any=True),))
            far = msgspec.structs.replace(rule, peers=peers or (_NOBODY,))
            for subject in subjects:
                made = _rule(document, spec, direction, subject, far, line)
                key = f"{document.key}/{side}/{rule.name}"
                times = rule_times(document, f"{side}/{rule.name}", rule.until)
                rules.append(msgspec.structs.replace(made, key=key, stand=stand, is_opinion=True, times=times))
    return rules


def _means_everyone(peers: Sequence[Peer]) -> bool:
    return not peers or any(peer.any for peer in peers)


def _far_peers(stand: Stand, peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """Say which addresses a far end has, of those that some peers mean; none: it is not meant."""
    if stand is Stand.HOST:
        return (Peer(host=True),) if any(peer.any or peer.host or peer.vm for peer in peers) else ()
    if any(peer.any for peer in peers):
        return (Peer(world=True),)
    return tuple(peer for peer in peers if peer.cidr or peer.world)


_NOBODY = Peer()
_NO_VM = Selector(match_expressions=(Expression(LABEL_TENANT, Operator.DOES_NOT_EXIST),))
"""Matches nothing: a rule that means nobody is an opinion all the same, and the end denies by default."""


def _flow_far_rules(
    document: Document, spec: FlowSpec, direction: Direction, subjects: Sequence[Selector], part: RuleSpec
) -> list[Rule]:
    """A flow of the pool's stands at the host and the edge too, as far as its far end means them."""
    rules = []
    for stand in (Stand.HOST, Stand.EDGE) if spec.tier is not Tier.TENANT else ():
        named = [peer for peer in part.peers if peer.vm is None]
        peers = _far_peers(stand, named)
        far = msgspec.structs.replace(part, name=f"{stand}-{part.name}", peers=peers)
        for subject in subjects if peers else ():
            made = _rule(document, spec, direction, subject, far, document.line)
            rules.append(msgspec.structs.replace(made, stand=stand))
    return rules


def _flow_rules(document: Document, spec: FlowSpec) -> list[Rule]:
    sides = (
        (Direction.EGRESS, "egress", spec.sources, spec.destinations),
        (Direction.INGRESS, "ingress", spec.destinations, spec.sources),
    )
    rules = []
    for direction, name, subjects, peers in sides:
        part = RuleSpec(
            name=name,
            action=spec.action,
            overridable=spec.overridable,
            peers=peers,
            ports=spec.ports,
            log=spec.log,
            rate_limit=spec.rate_limit,
        )
        chosen = [Selector() if peer.any else peer.vm for peer in subjects]
        near = [_scoped(document, spec.tier, each) for each in chosen if each is not None]
        rules += [_rule(document, spec, direction, subject, part, document.line) for subject in near]
        rules += _flow_far_rules(document, spec, direction, near, part)
    return rules


def _rule(
    document: Document, spec: PolicySpec | FlowSpec, direction: Direction, subject: Selector, rule: RuleSpec, line: int
) -> Rule:
    return Rule(
        key=f"{document.key}/{direction.name.lower()}/{rule.name}",
        document=document.key,
        policy=document.name,
        name=rule.name,
        tier=spec.tier,
        order=spec.order,
        mode=spec.mode,
        direction=direction,
        subject=subject,
        action=rule.action,
        overridable=rule.overridable,
        peers=tuple(_scoped_peer(document, spec.tier, peer) for peer in rule.peers),
        spans=tuple(span for port in rule.ports for span in _spans(port)),
        file=document.file,
        line=line,
        place=(TIER_RANK[spec.tier], spec.order),
        times=rule_times(document, f"{direction.name.lower()}/{rule.name}", rule.until),
        log=rule.log,
        connections=rule.rate_limit.connections if rule.rate_limit else 0,
        within=rule.rate_limit.within if rule.rate_limit else 0,
    )


def _exceptions(document: Document, written: Document, rules: Sequence[Rule]) -> list[Rule]:
    """Give the rules of one exception: beside each rule that yields one of the same place, for what both mean."""
    spec, policy = written.spec, document.spec
    if not isinstance(spec, ExceptionSpec) or not isinstance(policy, PolicySpec | FlowSpec):
        return []
    found: dict[tuple[str, bytes], Rule] = {}
    for rule in rules:
        if rule.stand is not Stand.VM or not may_yield(policy, rule.name, rule.action, spec):
            continue
        subjects = _excepted_subjects(policy, spec, rule)
        for subject in (_scoped(document, rule.tier, each) for each in subjects):
            made = _exception(document, written, spec, rule, subject)
            found.setdefault((made.key, canonical_bytes(subject)), made)
    return list(found.values())


def _exception(document: Document, written: Document, spec: ExceptionSpec, rule: Rule, subject: Selector) -> Rule:
    far = spec.destinations if rule.direction is Direction.EGRESS else spec.sources
    return msgspec.structs.replace(
        rule,
        key=f"{written.key}/{rule.direction.name.lower()}/{rule.name}",
        policy=written.name,
        subject=subject,
        action=Action.ALLOW if spec.action is Yielding.ALLOW else Action.PASS,
        overridable=False,
        peers=tuple(_scoped_peer(document, rule.tier, peer) for peer in far),
        spans=tuple(span for port in spec.ports for span in _spans(port)),
        file=written.file,
        line=written.line,
        times=times_said(written),
        log=spec.log,
        connections=0,
        within=0,
        yielding=rule.key,
    )


def _excepted_subjects(policy: PolicySpec | FlowSpec, spec: ExceptionSpec, rule: Rule) -> list[Selector]:
    """At whom an exception stands: at all at whom the rule does, or at fewer."""
    if spec.subject is not None:
        return [spec.subject]
    near = spec.sources if rule.direction is Direction.EGRESS else spec.destinations
    if not near:
        return [rule.subject]
    if isinstance(policy, PolicySpec):
        return []  # a policy's near end is its subject
    return [peer.vm or Selector() for peer in near if peer.any or peer.vm is not None]


def may_yield(policy: PolicySpec | FlowSpec, name: str, action: Action, exception: ExceptionSpec) -> bool:
    """Say whether a rule of a policy yields to an exception that names the policy. What does not fit changes nothing."""
    if isinstance(policy, PolicySpec) and (exception.rule != name or policy.subject.stand is not Stand.VM):
        return False
    if policy.tier is not exception.tier or policy.tier is Tier.QUARANTINE or policy.mode is PolicyMode.OBSERVE:
        return False
    if exception.action is Yielding.ALLOW:
        return action in DENIALS and policy.tier is not Tier.PLATFORM
    return True


def _spans(port: Port) -> list[Span]:
    if port.protocol == "any":
        return [Span(protocol, 0, 65535) for protocol in (0, *PROTOCOLS.values())]
    low, high = port.span()
    return [Span(PROTOCOLS[port.protocol], low, high)]


def _scoped(document: Document, tier: Tier, selector: Selector) -> Selector:
    """Keep a tenant's selector within its tenant."""
    if tier is not Tier.TENANT:
        return selector
    labels = {**selector.match_labels, LABEL_TENANT: document.tenant}
    return Selector(match_labels=labels, match_expressions=selector.match_expressions)


def _scoped_peer(document: Document, tier: Tier, peer: Peer) -> Peer:
    return peer if peer.vm is None else Peer(vm=_scoped(document, tier, peer.vm))
