"""One lab for all that is proven with the three tenants: each test leaves policies behind, and takes away what it finds."""

import pytest

from buckler.model.operatorapi.documents import ApplyRequest, Reference
from tests.system.tenants.allpairs import Pairs
from tests.system.tenants.lab import as_file, tenant_lab, vm_documents

POLICIES = ("Policy", "Flow", "Response", "Service")


@pytest.fixture(scope="package")
def everybody():
    with tenant_lab() as lab:
        yield lab


@pytest.fixture(scope="package")
def pairs(everybody):
    return Pairs(everybody)


@pytest.fixture
def lab(everybody):
    """The lab without any policy, its guests where they began."""
    with everybody.pool.operator() as client:
        found = [each for kind in POLICIES for each in client.documents(kind)]
        gone = tuple(reference(each.document) for each in found)
        client.apply(ApplyRequest(files=(as_file("vms", vm_documents()),), delete=gone, wait=40))
    everybody.pool.wait_for_hosts()
    for guest in everybody.centre.plan.guests:
        everybody.centre.migrate(guest.name, guest.host)
    return everybody


def reference(document):
    return Reference(document["kind"], document["metadata"]["name"], document["metadata"].get("tenant", "default"))
