"""Rules of any Kubernetes policy, with named ports put into numbers. Owns the spelling, not the reading.

What is not sure never matches a rule that allows, and turns one that denies or passes into a denial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from buckler.model.label import Expression, Operator, Selector
from buckler.policy.importers.kubernetes.ports import (
    AnyPort,
    VmLabels,
    label_numbers,
    named,
    numbered,
    resolutions,
    split_subject,
)
from buckler.policy.importers.kubernetes.selectors import both
from buckler.policy.importers.naming import document_name, policy_document, rule_name
from buckler.policy.language import Action, Document, EgressRule, IngressRule, Peer, Port


class SourceRule(msgspec.Struct, frozen=True):
    """One rule as read. None: any peer, any port; nothing in the list: none at all."""

    name: str
    action: Action
    peers: tuple[Peer, ...] | None = None
    ports: tuple[AnyPort, ...] | None = None


class SourcePolicy(msgspec.Struct, frozen=True):
    """One policy as read: what both kinds of it share."""

    name: str
    subject: Selector
    ingress: tuple[SourceRule, ...]
    egress: tuple[SourceRule, ...]


def spell_policy(policy: SourcePolicy, vms: VmLabels, **words: Any) -> list[Document]:
    """Write a policy as documents of one level: one, or one for each way in which its subjects name their ports."""
    egress = [each for rule in policy.egress for each in _egress(rule, vms)]
    wanted = [port for rule in policy.ingress for port in named(rule.ports)]
    if not wanted:
        ingress = [each for rule in policy.ingress for each in _ingress(rule, {})]
        return _documents(policy.name, policy.subject, ingress, egress, words)
    found = _documents(f"{policy.name}.egress", policy.subject, [], egress, words)
    for index, (subject, numbers) in enumerate(split_subject(policy.subject, wanted, vms), start=1):
        ingress = [each for rule in policy.ingress for each in _ingress(rule, numbers)]
        found += _documents(f"{policy.name}.ports-{index}", subject, ingress, [], words)
    return found


def _documents(
    name: str, subject: Selector, ingress: Sequence[IngressRule], egress: Sequence[EgressRule], words: dict[str, Any]
) -> list[Document]:
    if not ingress and not egress:
        return []
    return [policy_document(document_name(name), subject=subject, ingress=ingress, egress=egress, **words)]


def _ingress(rule: SourceRule, numbers: Mapping[str, str]) -> Iterable[IngressRule]:
    """Spell one rule for subjects whose named ports have ``numbers`` (label key → value)."""
    if rule.peers == ():
        return
    peers = rule.peers or ()
    if rule.ports is None:
        yield IngressRule(rule.name, rule.action, peers=peers)
        return
    sure = list(numbered(rule.ports))
    unsure: list[Port] = []
    for port in named(rule.ports):
        for key, protocol in port.label_keys():
            values = label_numbers(numbers[key]) if key in numbers else []
            (sure if len(values) == 1 else unsure).extend(Port(protocol, each) for each in values)
    if unsure and rule.action is not Action.ALLOW:
        yield IngressRule(rule_name(rule.name, "unclear"), Action.DENY, ports=tuple(unsure), peers=peers)
    if sure:
        yield IngressRule(rule.name, rule.action, ports=tuple(dict.fromkeys(sure)), peers=peers)


def _egress(rule: SourceRule, vms: VmLabels) -> Iterable[EgressRule]:
    """Spell one rule; a named port is another number at each destination that names it."""
    if rule.peers == ():
        return
    peers = rule.peers or ()
    if rule.ports is None:
        yield EgressRule(rule.name, rule.action, peers=peers)
        return
    if plain := numbered(rule.ports):
        yield EgressRule(rule.name, rule.action, ports=plain, peers=peers)
    meant = [(port.name, *each) for port in named(rule.ports) for each in resolutions(port, vms)]
    for name, key, value, protocol in dict.fromkeys(meant):
        values = label_numbers(value)
        narrowed = _naming(peers, key, value)
        if not narrowed or (len(values) > 1 and rule.action is Action.ALLOW):
            continue  # addresses have no named ports, and no peer at all would mean every peer
        yield EgressRule(
            rule_name(rule.name, name, protocol.lower(), value.replace("_", "-")),
            rule.action if len(values) == 1 else Action.DENY,
            ports=tuple(Port(protocol, each) for each in values),
            peers=narrowed,
        )


def _naming(peers: tuple[Peer, ...], key: str, value: str) -> tuple[Peer, ...]:
    """Narrow peers to the VMs whose port has this number."""
    narrowed = Selector(match_expressions=(Expression(key, Operator.IN, (value,)),))
    chosen = [each.vm for each in peers if each.vm is not None] if peers else [Selector()]
    return tuple(Peer(vm=both(each, narrowed)) for each in chosen)
