"""The built-in emergency policy: a quarantined VM speaks to nobody, and nobody speaks to it, at both ends."""

from __future__ import annotations

from buckler.model.label import LABEL_QUARANTINE, Expression, Operator, Selector
from buckler.policy.language import Action, Document, EgressRule, IngressRule, Kind, Peer, PolicySpec, Priority, Tier

QUARANTINED = Selector(match_expressions=(Expression(key=LABEL_QUARANTINE, operator=Operator.EXISTS),))
_AT_PEER = (Peer(vm=QUARANTINED),)


def _policy(name: str, subject: Selector, peers: tuple[Peer, ...]) -> Document:
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
            tier=Tier.EMERGENCY,
            order=-1,
            subject=subject,
            ingress=(IngressRule(name="ingress", action=Action.DENY, peers=peers),),
            egress=(EgressRule(name="egress", action=Action.DENY, peers=peers),),
        ),
    )


QUARANTINE_POLICIES = (
    _policy("buckler:quarantine", QUARANTINED, ()),
    _policy("buckler:quarantined-peer", Selector(), _AT_PEER),
)
