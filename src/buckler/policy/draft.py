"""Documents alone → a pool with numbers that nobody allocated: for questions about files. Nothing of it is ever enforced."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.ids import FIRST_CIDR_IDENTITY, FIRST_VM_IDENTITY, IdentityNumber, RuleNumber, VmId, VmNumber, Zone
from buckler.model.pool import Vm
from buckler.policy.identity import missing_numbers
from buckler.policy.language import Document, Kind
from buckler.policy.pool import (
    Numbers,
    Pool,
    network_from_document,
    outsider_from_document,
    service_addresses,
    vm_from_document,
)
from buckler.policy.timing import Active, active

LABEL_NAMESPACE = "namespace.kubernetes.io/metadata.name"
"""On an imported workload: the namespace in front of the first dot of its name."""


class Draft(msgspec.Struct, frozen=True):
    """What documents alone say. ``over``: those that ended before."""

    pool: Pool
    documents: tuple[Document, ...]
    numbers: Numbers
    over: tuple[Document, ...] = ()


def draft_pool(documents: Iterable[Document], at: float | None = None) -> Draft:
    """Number everything in the order of its names; a VM's id is its document's key. ``at``: the time, where any begins or ends."""
    documents = tuple(sorted(documents, key=lambda each: each.key))
    told = Active(documents, 0) if at is None else active(documents, at)
    documents = told.documents
    networks = [each for each in documents if each.kind is Kind.NETWORK]
    vms = [each for each in documents if each.kind is Kind.VM]
    pool = Pool(
        networks=tuple(network_from_document(each, Zone(place)) for place, each in enumerate(networks, 1)),
        vms=tuple(vm_from_document(each, VmId(each.key), VmNumber(place)) for place, each in enumerate(vms, 1)),
        outsiders=tuple(outsider_from_document(each) for each in documents if each.kind is Kind.ENDPOINT),
        services=service_addresses(documents),
    )
    missing = missing_numbers(pool, documents, Numbers())
    numbers = Numbers(
        identities={key: IdentityNumber(FIRST_VM_IDENTITY + place) for place, key in enumerate(missing.identities)},
        cidrs={key: IdentityNumber(FIRST_CIDR_IDENTITY + place) for place, key in enumerate(missing.cidrs)},
        rules={key: RuleNumber(place) for place, key in enumerate(missing.rules, 1)},
        services={key: place for place, key in enumerate(missing.services, 1)},
    )
    return Draft(pool, documents, numbers, told.over)


def vm_title(vm: Vm) -> str:
    """Give ``TENANT/NAME``, or ``NAMESPACE/NAME`` of an imported workload."""
    namespace = vm.labels.get(LABEL_NAMESPACE, "")
    if namespace and vm.name.startswith(f"{namespace}."):
        return f"{namespace}/{vm.name.removeprefix(f'{namespace}.')}"
    return f"{vm.tenant}/{vm.name}"
