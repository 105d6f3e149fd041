"""Which policy bound a VM, when and on which host: from proven ledger entries and kept objects. Decides nothing."""

from __future__ import annotations

import msgspec

from buckler.controller.bound_words import program_words
from buckler.controller.parts import Parts
from buckler.controller.passports import every_issuer
from buckler.controller.proving import proven
from buckler.controller.published import Shelf
from buckler.ledger.residence import (
    HOST_KINDS,
    RESIDENCE_KINDS,
    Span,
    enforced_on,
    holds_at,
    spans_of,
    stays_of,
)
from buckler.model.binding import binding_of
from buckler.model.bundle import Endpoint
from buckler.model.event import EventKind
from buckler.model.ids import HostId
from buckler.model.operatorapi.vms import BoundCard, BoundPolicy
from buckler.ports.records import VmRecord
from buckler.ports.store import Unit

_MOST = 100_000


def bound_policies(parts: Parts, unit: Unit, vm: VmRecord, at: float, host: str) -> list[BoundPolicy]:
    """Tell every time in which a policy bound the VM, or the one at a moment. Raises Refused."""
    own = [each for each in proven(parts, unit, unit.ledger.of_vm(vm.id, _MOST)) if each.kind in RESIDENCE_KINDS]
    places = {entry.host for entry in own if entry.host}
    told = proven(parts, unit, unit.ledger.of_hosts(places, HOST_KINDS))
    uuid = next((each.value for each in unit.vms.attributes(vm.id) if each.name == "uuid"), "")
    stays = stays_of(own, [entry for entry in told if entry.kind == EventKind.GAP], uuid)
    names = {record.host.id: record.host.name for record in unit.hosts.all()}
    spans = [
        span
        for span in spans_of(stays, enforced_on(told))
        if host in {"", span.stay.host, names.get(HostId(span.stay.host))} and (not at or holds_at(span, at))
    ]
    shelf = Shelf(unit, every_issuer(parts, unit))
    found = [_bound(shelf, vm, span, names.get(HostId(span.stay.host), span.stay.host)) for span in spans]
    return _joined(found)


def _bound(shelf: Shelf, vm: VmRecord, span: Span, host: str) -> BoundPolicy:
    entries, note = span.stay.entries, span.stay.note
    if span.enforced is None:
        why = "no revision that was enforced there is known: closed, or bound by what stood before the first entry"
        return BoundPolicy(host, span.since, span.until, (), entries=entries, note="; ".join(filter(None, (note, why))))
    policy = shelf.policy(shelf.manifest(span.enforced))
    mine: list[tuple[Endpoint, str]] = []
    for segment in policy.segments:
        mine += [(endpoint, segment.network) for endpoint in segment.endpoints if endpoint.vm == vm.id]
    rules = {each.number: each for each in policy.rules}
    cards = tuple(
        BoundCard(
            mac=endpoint.mac,
            network=network,
            mode=endpoint.mode,
            identity=endpoint.identity,
            program=endpoint.program,
            addresses=endpoint.addresses,
            rules=program_words(policy.programs[endpoint.program], rules, shelf.names),
        )
        for endpoint, network in sorted(mine, key=lambda each: each[0].mac)
    )
    return BoundPolicy(
        host=host,
        since=span.since,
        until=span.until,
        revisions=(span.enforced.revision,),
        binding=binding_of(endpoint for endpoint, _ in mine) if mine else "",
        cards=cards,
        entries=(*entries, span.enforced.entry),
        note=note,
    )


def _joined(found: list[BoundPolicy]) -> list[BoundPolicy]:
    """Revisions that say the same of the VM are one time."""
    joined: list[BoundPolicy] = []
    for each in found:
        last = joined[-1] if joined else None
        is_same = last is not None and (last.host, last.binding, last.cards) == (each.host, each.binding, each.cards)
        if last is None or not is_same or last.until != each.since or not (last.revisions and each.revisions):
            joined.append(each)
            continue
        joined[-1] = msgspec.structs.replace(
            last,
            until=each.until,
            revisions=tuple(dict.fromkeys((*last.revisions, *each.revisions))),
            entries=tuple(sorted({*last.entries, *each.entries})),
            note=each.note,
        )
    return joined
