"""Read at whom a policy stands, and check what one at the host or the edge may say, and beside which. Owns no meaning of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from buckler.policy.field import Place
from buckler.policy.language import Document, Peer, PolicyMode, PolicySpec, RuleSpec, Stand, Subject, Tier
from buckler.policy.problem import Problem
from buckler.policy.words import read_selector

_HINTS = {
    Stand.HOST: "the host's end is asked about VMs only: {vm: …}, {any: true}, or leave the list out",
    Stand.EDGE: "the edge is asked about the world only: {world: true}, {cidr: …}, {addresses: …}, or leave the list out",
}


def read_subject(place: Place) -> Subject:
    """Read a selector of VMs, or ``{host: true}``, or ``{edge: true}``."""
    if not isinstance(place.raw.value, dict) or not {"host", "edge"} & place.raw.value.keys():
        selector = read_selector(place)
        return Subject(selector.match_labels, selector.match_expressions)
    fields = place.fields(("host", "edge", "matchLabels", "matchExpressions"))
    given = [word for word in ("host", "edge") if word in fields]
    for word in given:
        if not fields[word].flag():
            fields[word].note(f"{word} can only be true", "leave it out instead")
    selects = any(fields[each].raw.value for each in ("matchLabels", "matchExpressions") if each in fields)
    if len(given) == 2 or selects:
        place.note("a subject is VMs, or the host, or the edge", "write a policy for each")
    return Subject(host=True) if given[0] == "host" else Subject(edge=True)


def check_subject(
    fields: Mapping[str, Place], subject: Subject, tier: Tier, sides: Mapping[str, tuple[RuleSpec, ...]]
) -> None:
    """Note what a policy at the host or the edge cannot say."""
    if subject.stand is Stand.VM:
        return
    if tier is Tier.TENANT:
        hint = "state a tier of the pool's: emergency, platform, security or baseline"
        fields["subject"].note(f"the {subject.stand} belongs to the pool, not to a tenant", hint)
    for side, rules in sides.items():
        if side not in fields:
            continue
        for place, rule in zip(fields[side].items(), rules, strict=True):
            if any(not _may_name(subject.stand, each) for each in rule.peers):
                place.note(f"names peers that have nothing to do with the {subject.stand}", _HINTS[subject.stand])
            if rule.service and subject.stand is Stand.EDGE:
                place.note("a service is VMs of the pool", _HINTS[subject.stand])


def check_askers(documents: Iterable[Document]) -> Iterator[Problem]:
    """Note policies with hours or an end where no other asks the host or the edge for good: it would open with their end."""
    far = [(each, each.spec) for each in documents if isinstance(each.spec, PolicySpec)]
    far = [(document, spec) for document, spec in far if spec.subject.stand is not Stand.VM]
    lasting = {
        (spec.subject.stand, side, spec.mode)
        for _, spec in far
        if not (spec.until or spec.schedule)
        for side in _sides(spec)
    }
    for document, spec in far:
        if spec.mode is PolicyMode.OBSERVE or not (spec.until or spec.schedule):
            continue
        for side in _sides(spec):
            modes = {spec.mode, PolicyMode.ENFORCE}
            if any((spec.subject.stand, side, mode) in lasting for mode in modes):
                continue
            stand = spec.subject.stand
            told = f"{document.kind} {document.name}: no policy that always holds asks the {stand} in its {side}: it would open when this one ends"
            hint = f"write one with the subject {{{stand}: true}}, without until and schedule, that says in its {side} what holds otherwise"
            path = "spec.until" if spec.until else "spec.schedule"
            yield Problem(document.file, document.lines.get(path, document.line), path, told, hint)


def _sides(spec: PolicySpec) -> list[str]:
    return [side for side, rules in (("ingress", spec.ingress), ("egress", spec.egress)) if rules]


def _may_name(stand: Stand, peer: Peer) -> bool:
    if peer.any:
        return True
    return peer.vm is not None if stand is Stand.HOST else bool(peer.cidr or peer.addresses or peer.world)
