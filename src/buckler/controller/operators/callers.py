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
    """Find a VM by its Buckler id, or else by its name in a tenant. Raises Refused."""
    wanted = (name, tenant or "default")
    named = [each for each in state.registered if (each.vm.name, each.vm.tenant) == wanted]
    for each in (*(each for each in state.registered if each.vm.id == name), *named):
        return each
    raise Refused(404, "no such VM", f"no VM {name!r} in tenant {tenant or 'default'!r}")


def find_host(unit: Unit, name: str) -> HostRecord:
    """Find any host that ever joined by id, or else by name, members first. Raises Refused."""
    records = unit.hosts.all()
    for record in sorted(records, key=lambda each: (each.host.id != name, each.host.state == "revoked")):
        if name in {record.host.id, record.host.name}:
            return record
    raise Refused(404, "no such host", f"no host {name!r}")
