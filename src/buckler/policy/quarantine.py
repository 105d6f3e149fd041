"""The built-in policies of quarantine: nothing to nobody, at both ends, but what remediation opens. Quarantines nobody."""

from __future__ import annotations

from buckler.model.label import LABEL_QUARANTINE, REMEDIATION, Expression, Operator, Selector
from buckler.policy.language import (
    Action,
    Document,
    EgressRule,
    FlowSpec,
    IngressRule,
    Kind,
    Peer,
    PolicySpec,
    Priority,
    Subject,
    Tier,
)

_IN_QUARANTINE = Expression(key=LABEL_QUARANTINE, operator=Operator.EXISTS)
QUARANTINED = Selector(match_expressions=(_IN_QUARANTINE,))
CLOSED = Selector(
    match_expressions=(_IN_QUARANTINE, Expression(LABEL_QUARANTINE, Operator.NOT_IN, (REMEDIATION,))),
)
"""In quarantine without remediation."""


def opens_quarantine_only(spec: PolicySpec | FlowSpec) -> bool:
    """Say whether a policy of the quarantine tier, or of any other, keeps to what that tier is for.

    Every rule that comes of it must have a VM in quarantine with remediation at one end: the subject, or every peer.
    """
    if spec.tier is not Tier.QUARANTINE:
        return True
    if isinstance(spec, PolicySpec):
        return _is_remediated(spec.subject)
    return any(bool(end) and all(map(_is_remediated_peer, end)) for end in (spec.sources, spec.destinations))


def _is_remediated(selector: Selector) -> bool:
    return selector.match_labels.get(LABEL_QUARANTINE) == REMEDIATION


def _is_remediated_peer(peer: Peer) -> bool:
    return peer.vm is not None and _is_remediated(peer.vm)


def _policy(name: str, tier: Tier, subject: Selector, peers: tuple[Peer, ...]) -> Document:
    return Document(
        kind=Kind.POLICY,
        name=name,
        file="(built in)",
        spec=PolicySpec(
            description="A quarantined VM is cut off from everything, at both ends",
            owner="buckler",
            reason="quarantine is one step and no other policy can undo it",
            review="9999-12-31",
            priority=Priority.CRITICAL,
            tier=tier,
            order=-1,
            subject=Subject(subject.match_labels, subject.match_expressions),
            ingress=(IngressRule(name="ingress", action=Action.DENY, peers=peers),),
            egress=(EgressRule(name="egress", action=Action.DENY, peers=peers),),
        ),
    )


_ANYBODY = Selector()
QUARANTINE_POLICIES = (
    # Before remediation: what is closed without it, and two in quarantine towards each other.
    _policy("buckler:quarantine", Tier.QUARANTINE, CLOSED, ()),
    _policy("buckler:quarantined-peer", Tier.QUARANTINE, _ANYBODY, (Peer(vm=CLOSED),)),
    _policy("buckler:quarantined-both", Tier.QUARANTINE, QUARANTINED, (Peer(vm=QUARANTINED),)),
    # After it: all that it does not open.
    _policy("buckler:remediation-only", Tier.EMERGENCY, QUARANTINED, ()),
    _policy("buckler:remediation-only-peer", Tier.EMERGENCY, _ANYBODY, (Peer(vm=QUARANTINED),)),
)
