"""Read at whom a policy stands, and check what one at the host or the edge may say. Owns no meaning of it."""

from __future__ import annotations

from collections.abc import Mapping

from buckler.policy.field import Place
from buckler.policy.language import Peer, RuleSpec, Stand, Subject, Tier
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


def _may_name(stand: Stand, peer: Peer) -> bool:
    if peer.any:
        return True
    return peer.vm is not None if stand is Stand.HOST else bool(peer.cidr or peer.addresses or peer.world)
