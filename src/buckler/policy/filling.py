"""A whole pool at once → its state, kept from then on change by change. Where tests and benchmarks begin; a controller follows its store."""

from __future__ import annotations

from collections.abc import Iterable

from buckler.policy.current import Current
from buckler.policy.delta import Numbering
from buckler.policy.language import AddressGroupSpec, Document, ExceptionSpec, FlowSpec, PolicySpec, ServiceSpec
from buckler.policy.pool import Pool

POLICY_SPECS = (PolicySpec, FlowSpec, AddressGroupSpec, ServiceSpec, ExceptionSpec)
"""What ``put_documents`` takes, with their times; VMs, networks and endpoints come as the pool's values."""


def fill(pool: Pool, documents: Iterable[Document], numbering: Numbering) -> Current:
    """Begin with a whole pool."""
    current = Current(numbering)
    current.put_hosts(pool.hosts)
    for network in pool.networks:
        current.put_network(network)
    current.put_documents(each for each in documents if isinstance(each.spec, POLICY_SPECS))
    for outsider in pool.outsiders:
        current.put_outsider(outsider)
    for service in pool.services:
        current.put_service(service)
    for vm in pool.vms:
        current.put_vm(vm)
    return current
