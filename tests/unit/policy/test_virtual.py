"""A virtual address means its members and nobody else: who they are, what is said to each, what hosts are told in between."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.cli.explain import explanation_lines
from buckler.model.bundle import Stage
from buckler.model.label import Selector
from buckler.model.operatorapi.answers import Explanation
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.draft import draft_pool
from buckler.policy.explainvirtual import explain_connection
from buckler.policy.language import (
    Action,
    Document,
    IngressRule,
    Kind,
    PolicySpec,
    Port,
    ServiceSpec,
    Subject,
    Tier,
    VmSpec,
)
from buckler.policy.packet import Packet
from buckler.policy.pairs import answer_reach
from buckler.policy.reference import judge
from buckler.policy.rollout import plan_rollout
from buckler.policy.virtual import judge_virtual
from tests.policyworld import Store
from tests.randompolicy import VIRTUAL, Drawn, Seeded, pick, virtual_services, vm, wide_open, world
from tests.randompolicy import network as net

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def brute_force(documents: tuple[Document, ...], service: Document) -> list[tuple[str, str]]:
    """Members by walking documents: no station, no pool, no sorting of our own."""
    spec = service.spec
    assert isinstance(spec, ServiceSpec)
    version = ipaddress.ip_address(spec.virtual_address).version
    found = []
    for document in documents:
        for card in document.spec.interfaces if isinstance(document.spec, VmSpec) else ():
            own = {**document.labels, **card.labels, "buckler.io/name": document.name}
            own |= {"buckler.io/id": f"vm-{document.tenant}-{document.name}", "buckler.io/tenant": document.tenant}
            fits = [each for each in card.addresses if ipaddress.ip_address(each).version == version]
            if card.network == spec.network and fits and spec.selector.matches({**own, "buckler.io/network": "net"}):
                found.append((int(ipaddress.ip_address(fits[0])), fits[0], card.mac))
    return [(address, mac) for _, address, mac in sorted(found)[:32]]


@pytest.mark.proof
@QUICK
@given(st.data())
def test_members_are_whom_the_selector_means_in_that_network(data):
    choose = Drawn(data.draw)
    store, documents = Store(), (*world(choose, 6), *virtual_services(choose))
    pool = store.pool(documents)
    (segment,) = build_bundle(pool, documents, store.allocate(pool, documents)).segments
    told = {each.name: each for each in segment.services}
    wanted = {each.name: each for each in documents if each.name in VIRTUAL and each.kind is Kind.SERVICE}
    assert told.keys() == wanted.keys()
    for name, service in told.items():
        members = brute_force(documents, wanted[name])
        assert [(each.address, each.mac) for each in service.members] == members
        assert service.address == VIRTUAL[name]
        spans = {(each.protocol, each.first, each.last) for each in service.ports}
        numbers = {"TCP": 6, "UDP": 17, "SCTP": 132}
        assert spans == {(numbers[each.protocol], *each.span()) for each in wanted[name].spec.ports}
    assert [each.number for each in segment.services] == sorted({each.number for each in segment.services})


@pytest.mark.proof
@QUICK
@given(st.data())
def test_a_packet_to_it_is_said_of_each_member_what_is_said_of_one_to_that_member(data):
    choose = Drawn(data.draw)
    documents = (*world(choose), *virtual_services(choose))
    pool = Store().pool(documents)
    for service in documents:
        if service.kind is not Kind.SERVICE or service.name not in VIRTUAL:
            continue
        sender = pick(choose, [each for each in documents if each.kind is Kind.VM])
        own = next(each for each in sender.spec.interfaces[0].addresses if (":" in each) == (service.name == "mail"))
        port = pick(choose, service.spec.ports)
        number = {"TCP": 6, "UDP": 17, "SCTP": 132}[port.protocol]
        packet = Packet("net", own, VIRTUAL[service.name], number, port.span()[0])
        said = judge_virtual(pool, documents, packet)
        others = [each for each in brute_force(documents, service) if each[1] != sender.spec.interfaces[0].mac]
        assert [(each.address, each.mac) for each in said] == others
        for member, judged in said.items():
            assert judged == judge(pool, documents, msgspec.structs.replace(packet, destination=member.address))
        told = explain_connection(pool, documents, own, packet.destination, port.protocol, packet.port)
        assert (told.verdict == "allow") == any(each.passes for each in said.values())
        assert len(told.paths) == len(others)
        assert VIRTUAL[service.name] in told.text
        closed = msgspec.structs.replace(packet, protocol=6 if number != 6 else 17, port=7)
        assert judge_virtual(pool, documents, closed) == {}


FRONT = Selector(match_labels={"app": "a"})


def shop(members: tuple[str, ...] = ("b", "a"), **changes: Any) -> tuple[Document, ...]:
    """vm0 sends to whom the selector means: VMs with the labels of ``members``, from vm1 on."""
    spec = ServiceSpec(FRONT, (Port("TCP", 80, 81),), network="net", virtual_address="10.9.0.200")
    spec = msgspec.structs.replace(spec, **changes)
    vms = tuple(vm(place, {"app": app}) for place, app in enumerate(members, 1))
    return (net(), vm(0, {}), *vms, wide_open(), Document(Kind.SERVICE, "shop", spec))


def asked(documents: tuple[Document, ...], origin: str = "vm0", port: int = 80, to: str = "10.9.0.200") -> Explanation:
    return explain_connection(Store().pool(documents), documents, origin, to, "TCP", port)


def test_it_is_told_whose_address_it_is_and_who_serves():
    told = asked(shop(("a", "b", "a")))
    assert told.verdict == "allow"
    assert [(each.origin, each.to, each.verdict) for each in told.paths] == [
        ("vm0", "vm1", "allow"),
        ("vm0", "vm3", "allow"),
    ]
    assert all([side.direction for side in each.sides] == ["egress", "ingress"] for each in told.paths)
    (service,) = told.services
    assert (service.name, service.network, service.address) == ("shop", "net", "10.9.0.200")
    assert [(each.vm, each.address) for each in service.members] == [("vm1", "10.9.0.11"), ("vm3", "10.9.0.13")]
    assert "virtual address of service shop in network net" in told.text
    assert "sends to one of vm1, vm3" in told.text
    assert "passes to all of them" in told.text
    words = "\n".join(explanation_lines(told, every_step=False))
    assert "vm0 → vm1: allow" in words


def test_what_depends_on_the_choice_is_told_as_that():
    guard = PolicySpec("", "", "", "", tier=Tier.EMERGENCY, subject=Subject({"buckler.io/name": "vm1"}),
                       ingress=(IngressRule("no", Action.DENY),))  # fmt: skip
    told = asked((*shop(("a", "a")), Document(Kind.POLICY, "guard", guard)))
    assert told.verdict == "allow"
    assert "passes to vm2 and is refused to vm1: it depends" in told.text
    closed = asked(tuple(each for each in shop(("a",)) if each.kind is not Kind.POLICY))
    assert closed.verdict == "deny"
    assert "refused to all" in closed.text


def test_another_port_no_member_and_the_client_itself():
    wrong = asked(shop(), port=22)
    assert (wrong.verdict, wrong.paths) == ("deny", ())
    assert "serves TCP 80-81 there: TCP 22 is refused" in wrong.text
    ping = explain_connection(Store().pool(shop()), shop(), "vm0", "10.9.0.200", "ICMP", 8 << 8)
    assert (ping.verdict, ping.paths, "ICMP is refused" in ping.text) == ("deny", (), True)
    nobody = asked(shop(("b",)))
    assert (nobody.verdict, nobody.paths) == ("deny", ())
    assert "no VM serves" in nobody.text
    alone = asked(shop(("a",)), origin="vm1")
    assert (alone.verdict, alone.paths) == ("deny", ())
    assert "nothing answers" in alone.text
    assert [each.to for each in asked(shop(("a", "a")), origin="vm1").paths] == ["vm2"]


def test_a_vm_in_quarantine_serves_nobody():
    store, documents = Store(), shop(("a", "a"))
    bundles = []
    for quarantined in ((), ("vm1",)):
        pool = store.pool(documents, quarantined)
        bundles.append(build_bundle(pool, documents, store.allocate(pool, documents)))
    before, after = ([each.address for each in one.segments[0].services[0].members] for one in bundles)
    assert (before, after) == (["10.9.0.11", "10.9.0.12"], ["10.9.0.12"])
    assert plan_rollout(bundles[:1], bundles[1])[0].stage is Stage.CLOSE


def test_more_than_a_shield_chooses_among_are_cut_and_told():
    documents = shop(("a",) * 35)
    pool, store = Store().pool(documents), Store()
    told = asked(documents)
    assert (len(told.paths), told.services[0].left_out) == (32, 3)
    assert "3 more serve" in told.text
    bundle = build_bundle(pool, documents, store.allocate(pool, documents))
    assert len(bundle.segments[0].services[0].members) == 32


def test_from_outside_and_from_the_address_itself_nothing_is_allowed():
    for origin in ("world", "198.51.100.1", "host"):
        told = asked(shop(), origin=origin)
        assert (told.verdict, told.paths) == ("deny", ())
        assert "nothing answers" in told.text
    spoof = asked(shop(), origin="10.9.0.200", to="vm2")
    assert (spoof.verdict, spoof.paths) == ("deny", ())
    assert "spoof" in spoof.text


def test_who_asks_of_it_as_an_outside_address_is_told_what_it_is():
    answer = answer_reach(draft_pool(shop()), 0, to="10.9.0.200")
    assert any("virtual address of service shop" in each for each in answer.notes)


def test_a_services_number_stays_with_its_address_whatever_its_document_is_called():
    store, documents = Store(), shop()
    renamed = (*documents[:-1], msgspec.structs.replace(documents[-1], name="mail"))
    moved = shop(virtual_address="10.9.0.201")
    numbers = []
    for each in (documents, renamed, moved, documents):
        pool = store.pool(each)
        (segment,) = build_bundle(pool, each, store.allocate(pool, each)).segments
        numbers.append([service.number for service in segment.services])
    assert numbers == [[1], [1], [2], [1]]


@pytest.mark.parametrize("seed", range(12))
def test_closing_keeps_the_latest_services_then_hosts_have_the_wanted_ones(seed):
    choose, store = Seeded(seed), Store()

    def state() -> Bundle:
        documents = (*world(choose), *virtual_services(choose))
        pool = store.pool(documents)
        return build_bundle(pool, documents, store.allocate(pool, documents))

    in_force = [state() for _ in range(choose.number(1, 3))]
    for _ in range(6):
        target = state()
        latest, wanted = in_force[-1].segments[0].services, target.segments[0].services
        plan = plan_rollout(in_force, target)
        for stage in plan:
            told = stage.bundle.segments[0].services
            assert told == (latest if stage.stage is Stage.CLOSE else wanted)
        in_force = [*in_force[-1:], *(each.bundle for each in plan[: choose.number(0, len(plan))])]


def test_a_member_that_comes_or_goes_is_a_change_of_one_stage_for_the_others():
    store, bundles = Store(), []
    for documents in (shop(("a", "b")), shop(("a", "b"), selector=Selector())):
        pool = store.pool(documents)
        bundles.append(build_bundle(pool, documents, store.allocate(pool, documents)))
    (stage,) = plan_rollout(bundles[:1], bundles[1])
    assert stage.bundle.is_same(bundles[1])
    assert len(bundles[1].segments[0].services[0].members) == 3


def in_lan(index: int, *networks: str, address: str = "") -> Document:
    document = vm(index, {})
    card = document.spec.interfaces[0]
    cards = tuple(
        msgspec.structs.replace(card, network=name, addresses=(address,) if address else card.addresses)
        for name in networks
    )
    return msgspec.structs.replace(document, spec=msgspec.structs.replace(document.spec, interfaces=cards))


def test_in_another_network_the_address_is_whoever_has_it_there():
    lan = msgspec.structs.replace(net(), name="lan", spec=msgspec.structs.replace(net().spec, bridge="br1"))
    away, both, owner = in_lan(7, "lan"), in_lan(8, "net", "lan"), in_lan(9, "lan", address="10.9.0.200")
    documents = (*shop(("a", "a")), lan, away, both, owner)
    told = asked(documents, origin="vm8")
    assert [(each.network, each.to) for each in told.paths] == [("lan", "vm9"), ("net", "vm1"), ("net", "vm2")]
    elsewhere = asked(documents, origin="vm7")
    assert [(each.network, each.to) for each in elsewhere.paths] == [("lan", "vm9")]
    other = msgspec.structs.replace(lan, spec=msgspec.structs.replace(lan.spec, cidrs=("10.8.0.0/24",)))
    alone = asked((*shop(("a", "a")), other, away), origin="vm7")
    assert (alone.verdict, alone.paths) == ("deny", ())
    assert "nothing answers vm7" in alone.text
