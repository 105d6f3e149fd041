"""Addresses granted to interfaces, as attributes of their VMs with validity times. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from buckler.model.agentapi import AddressSource
from buckler.model.ids import VmId
from buckler.policy.claim import Grant

_PREFIX = "address "
REFUSED = "refused address "
"""Followed by an address: a VM attribute that holds why its claim was refused."""


class _Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    network: str
    source: AddressSource
    server: str = ""
    expires_at: float = 0.0


def grants_of(vm: VmId, attributes: Mapping[str, str]) -> tuple[Grant, ...]:
    """Read a VM's grants in force, oldest first where ``attributes`` are."""
    found = []
    for name, value in attributes.items():
        if name.startswith(_PREFIX):
            mac, address = name.removeprefix(_PREFIX).split(" ", 1)
            stored = msgspec.json.decode(value, type=_Stored)
            found.append(Grant(vm, mac, stored.network, address, stored.source, stored.server, stored.expires_at))
    return tuple(found)


def attribute_of(grant: Grant) -> tuple[str, str]:
    """Write a grant as the name and value of an attribute."""
    stored = _Stored(grant.network, grant.source, grant.server, grant.expires_at)
    return f"{_PREFIX}{grant.mac} {grant.address}", msgspec.json.encode(stored).decode()
