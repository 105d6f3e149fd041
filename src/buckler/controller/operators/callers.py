"""Who speaks on the operator socket, and what they name. Owns the actor's name and the refusal 404."""

from __future__ import annotations

import pwd
from typing import Any

from litestar import Request

from buckler.controller.pool_state import Registered, State
from buckler.controller.problems import Refused
from buckler.ports.roster import HostRecord
from buckler.ports.store import Unit

AnyRequest = Request[Any, Any, Any]


def actor_of(request: AnyRequest) -> str:
    """Name the person by the kernel's peer credentials: ``uid:0(root)``."""
    uid = request.client.host if request.client else ""
    if not uid.startswith("uid:"):
        raise Refused(403, "no peer credentials")
    try:
        return f"{uid}({pwd.getpwuid(int(uid[4:])).pw_name})"
    except KeyError:
        return uid


def find_vm(state: State, name: str, tenant: str) -> Registered:
    """Find a VM by its name in a tenant, or by its Buckler id. Raises Refused."""
    for each in state.registered:
        if each.vm.id == name or (each.vm.name, each.vm.tenant) == (name, tenant or "default"):
            return each
    raise Refused(404, "no such VM", f"no VM {name!r} in tenant {tenant or 'default'!r}")


def find_host(unit: Unit, name: str) -> HostRecord:
    """Find a member by name, or any host that ever joined by id. Raises Refused."""
    records = unit.hosts.all()
    for record in sorted(records, key=lambda each: each.host.state == "revoked"):
        if name in {record.host.id, record.host.name}:
            return record
    raise Refused(404, "no such host", f"no host {name!r}")
