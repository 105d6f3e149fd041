"""What a change that is not made would do to the matrix. Allocates nothing."""

from __future__ import annotations

from buckler.controller.numbering import lend_numbers, read_numbers
from buckler.controller.pool_state import attributes_now, quarantine_label
from buckler.model.ids import VmId, VmNumber, Zone
from buckler.model.operatorapi.documents import ReachChange
from buckler.model.pool import Network, Vm
from buckler.policy.language import Document, Kind
from buckler.policy.pool import Pool, network_from_document, outsider_from_document, vm_from_document
from buckler.policy.reach import reach_pairs, words_of
from buckler.ports.store import Unit

Pair = tuple[str, str]


def reach_changes(unit: Unit, before: tuple[Document, ...], after: tuple[Document, ...]) -> tuple[ReachChange, ...]:
    """Compare the matrices of two sets of documents."""
    old, new = _matrix(unit, before), _matrix(unit, after)
    return tuple(
        ReachChange(pair[0], pair[1], old.get(pair, ()), new.get(pair, ()))
        for pair in sorted(old.keys() | new.keys())
        if old.get(pair, ()) != new.get(pair, ())
    )


def imagined_pool(unit: Unit, documents: tuple[Document, ...]) -> Pool:
    """The pool as it would be with these documents; what is not registered yet gets names in place of ids."""
    records = {(vm.tenant, vm.name): vm for vm in unit.vms.all()}
    networks: list[Network] = []
    vms: list[Vm] = []
    for document in documents:
        if document.kind is Kind.NETWORK:
            networks.append(network_from_document(document, Zone(len(networks) + 1)))
        if document.kind is Kind.VM:
            record = records.get((document.tenant, document.name))
            vm = record.id if record else VmId(document.key)
            quarantine = quarantine_label(attributes_now(unit, record.id)) if record else ""
            vms.append(vm_from_document(document, vm, VmNumber(len(vms) + 1), quarantine=quarantine))
    return Pool(
        networks=tuple(networks),
        vms=tuple(vms),
        hosts=tuple(record.host for record in unit.hosts.all()),
        outsiders=tuple(outsider_from_document(each) for each in documents if each.kind is Kind.ENDPOINT),
    )


def _matrix(unit: Unit, documents: tuple[Document, ...]) -> dict[Pair, tuple[str, ...]]:
    pool = imagined_pool(unit, documents)
    numbers = lend_numbers(read_numbers(unit), pool, documents)
    return {(pair.origin, pair.to): words_of(pair.allowed) for pair in reach_pairs(pool, documents, numbers)}
