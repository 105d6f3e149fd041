"""The ledger as the API tells it: a VM's history in words. Believes no row that does not verify."""

from __future__ import annotations

from buckler.controller.parts import Parts
from buckler.controller.problems import Refused
from buckler.controller.proving import proven
from buckler.ledger.history import history
from buckler.model.operatorapi.vms import HistoryEntry
from buckler.ports.records import VmRecord
from buckler.ports.store import Unit

_MOST = 100_000


def history_of(parts: Parts, unit: Unit, name: str, tenant: str, limit: int) -> list[HistoryEntry]:
    """Tell the life of a VM, deleted ones too. Raises Refused when there never was one."""
    vm = ever_registered(unit, name, tenant)
    hosts: dict[str, str] = {record.host.id: record.host.name for record in unit.hosts.all()}
    entries = proven(parts, unit, unit.ledger.of_vm(vm.id, min(limit, _MOST) or _MOST))
    return [
        HistoryEntry(
            index=entry.sequence,
            at=entry.at,
            kind=entry.kind,
            text=line.text,
            host=line.host,
            actor=entry.actor,
            cause=entry.cause,
            detail=entry.detail,
            part_of=line.part_of,
        )
        for entry, line in zip(entries, history(entries, hosts), strict=True)
    ]


def ever_registered(unit: Unit, name: str, tenant: str) -> VmRecord:
    found = [vm for vm in unit.vms.ever() if vm.id == name or (vm.name, vm.tenant) == (name, tenant or "default")]
    if not found:
        raise Refused(404, "there never was such a VM", f"no VM {name!r} in tenant {tenant or 'default'!r}")
    return max(found, key=lambda vm: (not vm.deleted_at, vm.created_at))
