"""What a change that is not made would do to the matrix. Allocates nothing."""

from __future__ import annotations

from buckler.controller.grants import grants_of
from buckler.controller.numbering import read_numbers
from buckler.controller.pool_state import load_learned, quarantine_label, zone_name
from buckler.model.ids import VmId, VmNumber, Zone
from buckler.model.operatorapi.documents import DiffResult
from buckler.model.pool import Network, Vm
from buckler.policy.claim import with_grants
from buckler.policy.documentdiff import diff_documents
from buckler.policy.draft import Draft
from buckler.policy.language import Document, Kind
from buckler.policy.learned import learned_groups
from buckler.policy.pool import Pool, network_from_document, outsider_from_document, vm_from_document
from buckler.policy.reachdiff import diff_reach
from buckler.policy.timing import active
from buckler.ports.records import NumberSpace
from buckler.ports.store import Unit


def imagine(unit: Unit, documents: tuple[Document, ...], now: float) -> Draft:
    """Make of documents what the pool would be with them now: quarantines, granted addresses and learned names stay."""
    told = active((*documents, *learned_groups(documents, load_learned(unit))), now)
    return Draft(imagined_pool(unit, documents), told.documents, read_numbers(unit), told.over)


def compare_documents(unit: Unit, before: tuple[Document, ...], after: tuple[Document, ...], now: float) -> DiffResult:
    """Say what is another in ``after``, in documents and in who may reach whom now."""
    delta = diff_reach(imagine(unit, before, now), imagine(unit, after, now))
    return DiffResult(diff_documents(before, after), delta.pairs, count=delta.count)


def imagined_pool(unit: Unit, documents: tuple[Document, ...]) -> Pool:
    """The pool as it would be with these documents; what is not registered yet gets names in place of ids."""
    records, attributes = {(vm.tenant, vm.name): vm for vm in unit.vms.all()}, unit.vms.attributes_now()
    zones = unit.numbers.table(NumberSpace.ZONE)
    unknown = max(zones.values(), default=0) + 1
    networks: list[Network] = []
    vms: list[Vm] = []
    for document in documents:
        if document.kind is Kind.NETWORK:
            zone = zones.get(zone_name(document), unknown + len(networks))
            networks.append(network_from_document(document, Zone(zone)))
        if document.kind is Kind.VM:
            record = records.get((document.tenant, document.name))
            vm = record.id if record else VmId(document.key)
            held = attributes.get(vm, {})
            number = VmNumber(len(vms) + 1)
            made = vm_from_document(document, vm, number, quarantine=quarantine_label(held))
            vms.append(with_grants(made, grants_of(vm, held)))
    return Pool(
        networks=tuple(networks),
        vms=tuple(vms),
        hosts=tuple(record.host for record in unit.hosts.all()),
        outsiders=tuple(outsider_from_document(each) for each in documents if each.kind is Kind.ENDPOINT),
    )
