"""Who may have an address by a claim, and until when: every refusal by its reason, and nobody's address twice."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.model.agentapi import AddressSource
from buckler.model.ids import HostId, VmId, VmNumber, Zone
from buckler.model.pool import Host, Interface, Network, Vm
from buckler.policy.claim import (
    MAX_LEASES,
    Grant,
    ground_of,
    list_stale,
    owners_of,
    refuse_claim,
    with_grants,
)
from buckler.policy.claimcheck import Holding, check_holdings
from buckler.policy.documents import read_documents
from buckler.policy.pool import Pool
from buckler.policy.source import Source

FRONT = Network(
    name="front", zone=Zone(1), tenant="default", bridge="br0", cidrs=("10.9.0.0/24", "fd00:9::/64"),
    dhcp_servers=("10.9.0.99",), routers=("10.9.0.98",), gateway=("10.9.0.1",), detected=2,
)  # fmt: skip
HOSTS = (Host(HostId("h1"), "hv1", "", "10.9.0.240", ("10.9.0.241",)),)


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def vm(number: int, *addresses: str) -> Vm:
    card = Interface(mac(number), "front", addresses)
    return Vm(VmId(f"vm-{number}"), VmNumber(number), f"web{number}", "default", f"u{number}", interfaces=(card,))


VMS = (vm(1), vm(2, "10.9.0.12"), vm(3))
POOL = Pool(networks=(FRONT,), vms=VMS, hosts=HOSTS)
GROUND = ground_of(POOL)


def detected(address: str, number: int = 1) -> Grant:
    return Grant(VmId(f"vm-{number}"), mac(number), "front", address, AddressSource.DETECTED)


def leased(address: str, number: int = 1, expires_at: float = 0.0) -> Grant:
    return Grant(VmId(f"vm-{number}"), mac(number), "front", address, AddressSource.DHCP, "10.9.0.99", expires_at)


def refuse(wanted: Grant, *held: Grant) -> str:
    vms = [with_grants(each, [grant for grant in held if grant.vm == each.id]) for each in VMS]
    return refuse_claim(GROUND, owners_of(vms), held, wanted, 100.0)


@pytest.mark.parametrize("wanted", [detected("10.9.0.50"), detected("fd00:9::50"), leased("10.9.0.50", 1, 101.0)])
def test_a_free_address_is_granted(wanted: Grant) -> None:
    assert refuse(wanted) == ""


@pytest.mark.parametrize(("address", "word"), [
    ("10.9.0.0", "network address"), ("10.9.0.255", "broadcast"), ("10.9.0.1", "gateway"), ("10.9.0.98", "router"),
    ("10.9.0.99", "DHCP server"), ("10.9.0.240", "hypervisor"), ("10.9.0.241", "hypervisor"),
    ("10.9.1.5", "no prefix"), ("fd00:9::", "network address"), ("fe80::5", "no prefix"), ("8.8.8.8", "no prefix"),
    ("224.0.0.5", "no interface's"), ("0.0.0.0", "no interface's"), ("127.0.0.1", "no interface's"),
    ("10.9.0.12", "another interface's"),
])  # fmt: skip
def test_what_is_anothers_or_nobodys_is_refused(address: str, word: str) -> None:
    assert word in refuse(detected(address))
    assert word in refuse(leased(address))


def test_the_first_claimant_wins() -> None:
    assert refuse(detected("10.9.0.50", 3), detected("10.9.0.50", 1)) == "it is another interface's"
    assert refuse(detected("10.9.0.50", 1), detected("10.9.0.50", 1)) == ""


def test_an_interface_is_limited_by_each_source() -> None:
    two = (detected("10.9.0.50"), detected("10.9.0.51"))
    assert "2 addresses by detected already" in refuse(detected("10.9.0.52"), *two)
    assert refuse(detected("10.9.0.51"), *two) == ""
    assert refuse(leased("10.9.0.52"), *two) == ""
    assert refuse(detected("10.9.0.52", 3), *two) == ""
    many = tuple(leased(f"10.9.0.{number}") for number in range(100, 100 + MAX_LEASES))
    assert "8 addresses by dhcp already" in refuse(leased("10.9.0.52"), *many)


def test_a_lease_needs_a_server_of_the_network_and_time() -> None:
    stranger = msgspec.structs.replace(leased("10.9.0.50"), server="10.9.0.97")
    assert refuse(stranger) == "10.9.0.97 is no DHCP server of network front"
    assert refuse(leased("10.9.0.50", 1, 100.0)) == "the lease is over"


def test_without_a_limit_nothing_is_granted_by_detection() -> None:
    ground = ground_of(Pool(networks=(msgspec.structs.replace(FRONT, detected=0),), vms=VMS))
    assert "addressClaims.limit is 0" in refuse_claim(ground, {}, (), detected("10.9.0.50"), 0)


def test_an_interface_of_another_network_is_refused() -> None:
    assert "no such interface" in refuse(msgspec.structs.replace(detected("10.9.0.50"), network="back"))
    assert "no such interface" in refuse(msgspec.structs.replace(detected("10.9.0.50"), mac=mac(2)))


def stale(
    *held: Grant, pool: Pool = POOL, stopped: frozenset[VmId] = frozenset(), now: float = 100.0
) -> dict[str, str]:
    return {
        each.grant.address: each.why for each in list_stale(ground_of(pool), owners_of(pool.vms), held, stopped, now)
    }


def test_what_is_in_order_stays() -> None:
    assert stale(detected("10.9.0.50"), leased("10.9.0.51", 1, 101.0), leased("10.9.0.52")) == {}


def test_grants_end() -> None:
    assert stale(leased("10.9.0.50", 1, 100.0)) == {"10.9.0.50": "the lease is over"}
    assert stale(detected("10.9.0.12")) == {"10.9.0.12": "it is declared"}
    stopped = frozenset({VmId("vm-1")})
    assert stale(detected("10.9.0.50"), leased("10.9.0.51"), stopped=stopped) == {"10.9.0.50": "the VM has stopped"}
    moved = Pool(networks=(msgspec.structs.replace(FRONT, gateway=("10.9.0.50",)),), vms=VMS)
    assert "gateway" in stale(detected("10.9.0.50"), pool=moved)["10.9.0.50"]
    tighter = Pool(networks=(msgspec.structs.replace(FRONT, detected=1),), vms=VMS)
    assert list(stale(detected("10.9.0.50"), detected("10.9.0.51"), pool=tighter)) == ["10.9.0.51"]
    without = Pool(networks=(msgspec.structs.replace(FRONT, dhcp_servers=()),), vms=VMS)
    assert list(stale(leased("10.9.0.50"), pool=without)) == ["10.9.0.50"]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 20), st.booleans()), max_size=40))
def test_no_order_of_claims_gives_an_address_twice_or_more_than_the_limit(claims: list[tuple[int, int, bool]]) -> None:
    held: list[Grant] = []
    for number, last, is_lease in claims:
        wanted = (leased if is_lease else detected)(f"10.9.0.{last}", number)
        if not refuse(wanted, *held):
            held = [each for each in held if (each.vm, each.address) != (wanted.vm, wanted.address)] + [wanted]
    assert len({each.address for each in held}) == len(held)
    assert not {each.address for each in held} & {"10.9.0.0", "10.9.0.1", "10.9.0.12"} - {
        each.address for each in held if each.vm == "vm-2"
    }
    for number in (1, 2, 3):
        assert sum(each.vm == f"vm-{number}" and each.source is AddressSource.DETECTED for each in held) <= 2
    assert stale(*(each for each in held if each.address != "10.9.0.12")) == {}


NETWORK = """
apiVersion: buckler.io/v1
kind: Network
metadata: {name: front}
spec: {bridge: br0, cidrs: [10.9.0.0/24], gateway: [%s], addressClaims: {limit: %s}}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: web1}
spec: {uuid: 00000000-1111-4222-8333-000000000001, interfaces: [{mac: "52:54:00:00:00:01", network: front, addresses: [10.9.0.50]}]}
---
apiVersion: buckler.io/v1
kind: VM
metadata: {name: web2}
spec: {uuid: 00000000-1111-4222-8333-000000000002, interfaces: [{mac: "52:54:00:00:00:02", network: front}]}
"""


def test_documents_say_the_limit() -> None:
    reading = read_documents([Source("f", NETWORK % ("10.9.0.1", 3))])
    assert reading.problems == ()
    assert reading.documents[0].spec.address_claims.limit == 3
    for wrong in ("17", "-1", "many"):
        assert read_documents([Source("f", NETWORK % ("10.9.0.1", wrong))]).problems
    nowhere = (NETWORK % ("10.9.0.1", 3)).replace("cidrs: [10.9.0.0/24], ", "")
    assert "prefixes" in read_documents([Source("f", nowhere)]).problems[0].message


def test_a_declared_address_of_anothers_claim_is_a_problem_with_a_hint() -> None:
    documents = read_documents([Source("f", NETWORK % ("10.9.0.60", 3))]).documents
    theirs = Holding("front", "10.9.0.50", "default", "web2", "detected")
    (problem,) = check_holdings(documents, [theirs])
    assert (problem.path, problem.line) == ("spec.interfaces[0].addresses[0]", 10)
    assert "10.9.0.50 is VM web2's by detected" in problem.message
    assert "stop web2" in problem.hint
    assert check_holdings(documents, [msgspec.structs.replace(theirs, vm="web1")]) == ()
    assert check_holdings(documents, [msgspec.structs.replace(theirs, network="back")]) == ()
    assert check_holdings(documents, [msgspec.structs.replace(theirs, vm="deleted")]) == ()
    (gateway,) = check_holdings(documents, [msgspec.structs.replace(theirs, address="10.9.0.60")])
    assert gateway.path == "spec.gateway[0]"
