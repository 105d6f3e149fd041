"""Documents → one flat, ordered list of rules, flows expanded to both ends. Owns the order; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from buckler.model.label import LABEL_TENANT, Selector
from buckler.model.program import Direction
from buckler.policy.compose import compose_documents
from buckler.policy.language import (
    PROTOCOLS,
    TIER_RANK,
    Action,
    Document,
    FlowSpec,
    Peer,
    PolicyMode,
    PolicySpec,
    Port,
    RuleSpec,
    Tier,
)
from buckler.policy.quarantine import QUARANTINE_POLICIES


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


def list_rules(documents: Iterable[Document]) -> tuple[Rule, ...]:
    """Expand every Policy and Flow, and the built-in quarantine, in the order of judging."""
    rules: list[Rule] = []
    for document in sorted((*compose_documents(documents), *QUARANTINE_POLICIES), key=lambda each: each.key):
        rules += expand_document(document)
    return tuple(sorted(rules, key=lambda rule: rule.place))


def expand_document(document: Document) -> list[Rule]:
    """Expand one composed document; all of its rules have one place."""
    if isinstance(document.spec, PolicySpec):
        return _policy_rules(document, document.spec)
    return _flow_rules(document, document.spec) if isinstance(document.spec, FlowSpec) else []


def _policy_rules(document: Document, spec: PolicySpec) -> list[Rule]:
    subject = _scoped(document, spec.tier, spec.subject)
    sides: tuple[tuple[Direction, Sequence[RuleSpec]], ...] = (
        (Direction.INGRESS, spec.ingress),
        (Direction.EGRESS, spec.egress),
    )
    rules = []
    for direction, written in sides:
        for index, rule in enumerate(written):
            line = document.lines.get(f"spec.{direction.name.lower()}[{index}]", document.line)
            rules.append(_rule(document, spec, direction, subject, rule, line))
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
        )
        for peer in subjects:
            subject = Selector() if peer.any else peer.vm
            if subject is not None:
                rules.append(
                    _rule(document, spec, direction, _scoped(document, spec.tier, subject), part, document.line)
                )
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
    )


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
