"""Which rules met no packet for so long, from what shields counted. Counts nothing, and knows no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from buckler.policy.language import Action, Document, FlowSpec, PolicyMode, PolicySpec, Stand

DAY = 86_400.0


class Counted(NamedTuple):
    """What a rule counted, over all hosts and pairs. ``last``: when the count last rose; 0: that was not kept."""

    packets: int
    last: float


class Unused(msgspec.Struct, frozen=True):
    """A rule that met no packet since ``since``. ``is_known`` False: not for as long as was asked, as nobody looked so long."""

    document: Document
    rule: str
    line: int
    since: float
    packets: int
    is_known: bool


def sum_counted(totals: Iterable[tuple[str, str, int, float]]) -> dict[tuple[str, str], Counted]:
    """Put together what is told of one rule: (policy, rule, packets, when last)."""
    found: dict[tuple[str, str], Counted] = {}
    for policy, rule, packets, last in totals:
        if packets:
            before = found.get((policy, rule), Counted(0, 0))
            found[policy, rule] = Counted(before.packets + packets, max(before.last, last))
    return found


def find_unused(
    documents: Iterable[tuple[Document, float]], counted: Mapping[tuple[str, str], Counted], now: float, days: int
) -> Iterator[Unused]:
    """Find rules that met nothing for ``days``, 0: ever. Each document comes with when it was written as it is.

    Only what a shield counts under the rule's own name can be judged: rules that decide something.
    """
    begin = now - days * DAY if days else 0.0
    for document, written in documents:
        for rule, line in _counted_rules(document):
            seen = counted.get((document.name, rule))
            if seen is None:
                yield Unused(document, rule, line, written, 0, is_known=not days or written <= begin)
            elif days and seen.last < begin:
                yield Unused(document, rule, line, seen.last, seen.packets, is_known=seen.last > 0)


def _counted_rules(document: Document) -> Iterator[tuple[str, int]]:
    """List the rules that decide. At the host and the edge only what denies is named: beside an allowance the VM's own rule is."""
    spec = document.spec
    if not isinstance(spec, PolicySpec | FlowSpec) or spec.mode is not PolicyMode.ENFORCE:
        return
    if isinstance(spec, FlowSpec):
        if spec.action is not Action.PASS:
            yield from ((side, document.line) for side, ends in _flow_sides(spec) if ends)
        return
    for side, rules in (("ingress", spec.ingress), ("egress", spec.egress)):
        for index, rule in enumerate(rules):
            silent = spec.subject.stand is not Stand.VM and rule.action is Action.ALLOW
            if rule.action is not Action.PASS and not silent:
                yield rule.name, document.lines.get(f"spec.{side}[{index}]", document.line)


def _flow_sides(spec: FlowSpec) -> Iterator[tuple[str, bool]]:
    """Say at which ends a flow stands: where VMs are."""
    yield "egress", any(peer.vm is not None or peer.any for peer in spec.sources)
    yield "ingress", bool(spec.service) or any(peer.vm is not None or peer.any for peer in spec.destinations)
