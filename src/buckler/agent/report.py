"""The host's state as the controller is told it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from buckler.agent.belief import Belief
from buckler.agent.engine import Outcome
from buckler.agent.residents import Residents
from buckler.gate.decision import Decision, InterfacePlan
from buckler.model.agentapi import Acknowledgement, Observation, ObservedDomain, ObservedInterface
from buckler.model.domain import DomainFacts, DomainState
from buckler.model.ids import Revision, VmId
from buckler.ports.hypervisor import Domain


def acknowledgement_of(outcome: Outcome, belief: Belief, at: float) -> Acknowledgement:
    """What the kernel was proven to enforce: policy that a member lent says nothing of what was meant for this host."""
    return Acknowledgement(min(outcome.enforced, belief.own_revision), at, outcome.problems)


def observation_of(
    outcome: Outcome,
    residents: Residents,
    at: float,
    enforced: Revision,
    residences: Mapping[VmId, str],
    awaited: frozenset[str],
) -> Observation:
    """Every domain, running or not, with what became of its interfaces.

    One that is ``awaited`` by migration counts as paused until its stay here has begun: told as running beside the
    residence of an earlier stay, it would look like a copy.
    """
    admitted = {outcome.desired.devices.get(index) for index in outcome.admitted}
    domains = tuple(
        _domain(_settled(domain, awaited), residents.facts_in(domain), outcome, admitted, residences)
        for domain in residents.snapshot.domains
    )
    return Observation(at, enforced, domains, outcome.problems)


def _settled(domain: Domain, awaited: frozenset[str]) -> Domain:
    if domain.uuid not in awaited or domain.state != DomainState.RUNNING.value:
        return domain
    return msgspec.structs.replace(domain, state=DomainState.PAUSED.value)


def _domain(
    domain: Domain,
    facts: DomainFacts | None,
    outcome: Outcome,
    admitted: Collection[str | None],
    residences: Mapping[VmId, str],
) -> ObservedDomain:
    if facts is None:
        return ObservedDomain(domain.uuid, domain.name, domain.state)
    decision = outcome.desired.standing.get(facts.uuid)
    return ObservedDomain(
        uuid=domain.uuid,
        name=domain.name,
        state=domain.state,
        vm="" if decision is None else decision.vm,
        passport=facts.passport or "",
        interfaces=_interfaces(facts, decision, admitted),
        volumes=facts.volumes,
        residence="" if decision is None else residences.get(decision.vm, ""),
    )


def _interfaces(
    facts: DomainFacts, decision: Decision | None, admitted: Collection[str | None]
) -> tuple[ObservedInterface, ...]:
    plans: dict[str, InterfacePlan] = {} if decision is None else {plan.mac: plan for plan in decision.interfaces}
    return tuple(
        ObservedInterface(
            mac=card.mac,
            kind=card.kind,
            bridge=card.bridge,
            device=card.device,
            admitted=bool(card.device) and card.device in admitted,
            reason=plans[card.mac].reason if card.mac in plans else "",
        )
        for card in facts.interfaces
    )
