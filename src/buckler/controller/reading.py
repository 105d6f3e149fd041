"""The ledger as the API tells it: a VM's history in words. Believes no row that does not verify."""

from __future__ import annotations

import msgspec

from buckler.controller.parts import Parts
from buckler.controller.passports import every_issuer
from buckler.controller.problems import Refused
from buckler.ledger.entry import Entry
from buckler.ledger.history import describe
from buckler.model.operatorapi.vms import HistoryEntry
from buckler.ports.records import VmRecord
from buckler.ports.store import Unit
from buckler.trust.statement import Kind, Untrusted, verify

_MOST = 100_000


def history_of(parts: Parts, unit: Unit, name: str, tenant: str, limit: int) -> list[HistoryEntry]:
    """Tell the life of a VM, deleted ones too. Raises Refused when there never was one."""
    vm = _ever(unit, name, tenant)
    hosts: dict[str, str] = {record.host.id: record.host.name for record in unit.hosts.all()}
    keys = every_issuer(parts, unit)
    told = []
    for statement in unit.ledger.of_vm(vm.id, min(limit, _MOST) or _MOST):
        try:
            entry = msgspec.json.decode(verify(Kind.LEDGER, statement, keys), type=Entry)
        except Untrusted as error:
            raise Refused(500, "the ledger was altered", f"{error}; run ledger verify") from error
        told.append(
            HistoryEntry(
                index=entry.sequence,
                at=entry.at,
                kind=entry.kind,
                text=describe(entry, hosts),
                host=hosts.get(entry.host, entry.host),
                actor=entry.actor,
                cause=entry.cause,
                detail=entry.detail,
            )
        )
    return told


def _ever(unit: Unit, name: str, tenant: str) -> VmRecord:
    found = [vm for vm in unit.vms.ever() if vm.id == name or (vm.name, vm.tenant) == (name, tenant or "default")]
    if not found:
        raise Refused(404, "there never was such a VM", f"no VM {name!r} in tenant {tenant or 'default'!r}")
    return max(found, key=lambda vm: (not vm.deleted_at, vm.created_at))
