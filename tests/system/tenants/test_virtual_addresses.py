"""A service behind a virtual address: real guests ask it, members come and go, the client and a member move."""

import pytest

from buckler.lab.story.cast import wait_until
from buckler.lab.story.probing import is_reached, scan
from buckler.lab.story.traffic import Traffic
from buckler.model.operatorapi.documents import ApplyRequest
from tests.system.tenants.lab import RED, as_file, vm_documents

pytestmark = pytest.mark.timeout(300)
CLIENT, NEAR, FAR, STRANGER = "red-1", "red-3", "red-2", "red-4"
"""The client and one member begin on host1."""
VIRTUAL = {"shop": "10.50.0.99", "shop6": "fd50::63"}
SHOWN = [f"tcp/{address}/80" for address in VIRTUAL.values()]
KEPT = [f"tcp/{address}/5432" for address in VIRTUAL.values()]
MEMBERS = {f"hello from {NEAR}", f"hello from {FAR}"}


def labels(*members):
    return {CLIENT: {"role": "client"}, **{name: {"role": "shop"} for name in members}}


def services():
    return [
        {
            "apiVersion": "buckler.io/v1",
            "kind": "Service",
            "metadata": {"name": name, "tenant": RED},
            "spec": {
                "selector": {"matchLabels": {"role": "shop"}},
                "ports": [{"protocol": "TCP", "port": port} for port in (80, 5432, 8080)],
                "network": RED,
                "virtualAddress": address,
                "owner": "red",
            },
        }
        for name, address in VIRTUAL.items()
    ]


def flow():
    """The client may ask members, on two of three ports."""
    return {
        "apiVersion": "buckler.io/v1",
        "kind": "Flow",
        "metadata": {"name": "ask-the-shop", "tenant": RED},
        "spec": {
            "description": "the client asks the shop",
            "owner": "red",
            "reason": "it sells",
            "review": "2031-01-01",
            "from": [{"vm": {"matchLabels": {"role": "client"}}}],
            "to": [{"vm": {"matchLabels": {"role": "shop"}}}],
            "ports": [{"protocol": "TCP", "port": port} for port in (80, 5432)],
        },
    }


def declare(lab, *documents):
    with lab.pool.operator() as client:
        client.apply(ApplyRequest(files=(as_file("shop", documents),), wait=40))
    lab.pool.wait_for_hosts()


@pytest.fixture
def shop(lab):
    declare(lab, *vm_documents(labels(NEAR, FAR)), *services(), flow())
    return lab


def page(lab, guest, target):
    return lab.centre.execute(guest, f"probe get {target}").output.strip()


def reached(lab, guest, targets):
    return {target for target, answer in scan(lab.centre, guest, targets).items() if is_reached(answer)}


def test_a_member_answers_at_the_virtual_address_and_it_opens_nothing(shop):
    for target in SHOWN:
        assert page(shop, CLIENT, target) in MEMBERS
    beside = [f"tcp/{address}/{port}" for address in VIRTUAL.values() for port in (22, 8080)]
    assert reached(shop, CLIENT, beside) == set(), (
        "8080 is the service's, but no flow allows it; 22 is not the service's"
    )
    for guest in (STRANGER, NEAR, "blue-1", "green-1"):
        assert reached(shop, guest, SHOWN) == set(), f"{guest}: nothing allows it, or it is another's network"
    assert shop.centre.attempt_at(shop.party("stranger").namespace, "get", SHOWN[0]).returncode != 0, (
        "only VMs are helped"
    )
    with shop.pool.operator() as client:
        told = client.explain(CLIENT, VIRTUAL["shop"], "TCP", 80, RED)
        assert told.verdict == "allow"
        assert client.explain(CLIENT, VIRTUAL["shop"], "TCP", 8080, RED).verdict == "deny"
        wait_until(
            "the flow is told with its service", lambda: "shop" in {each.flow.service for each in client.flows()}
        )


def test_members_come_and_go_and_what_goes_on_stays_where_it_is(shop):
    for name in (NEAR, FAR):
        declare(shop, *vm_documents(labels(name)))
        wait_until(
            f"only {name} answers", lambda n=name: {page(shop, CLIENT, each) for each in SHOWN} == {f"hello from {n}"}
        )
    traffic = Traffic(shop.centre, CLIENT, KEPT)
    traffic.has_gone_on()
    declare(shop, *vm_documents(labels(NEAR, FAR)))
    traffic.has_gone_on()
    survived = traffic.stop()
    assert survived.holds, "who comes takes nobody's connections"
    declare(shop, *vm_documents(labels()))
    assert reached(shop, CLIENT, SHOWN) == set(), "nobody is behind it"


def test_connections_through_it_go_on_while_the_client_and_members_move(shop):
    traffic = Traffic(shop.centre, CLIENT, KEPT)
    traffic.has_gone_on()
    for guest, host in ((CLIENT, "host2"), (NEAR, "host2"), (FAR, "host1"), (CLIENT, "host1")):
        shop.centre.migrate(guest, host)
        traffic.has_gone_on()
    assert traffic.stop().holds
    for target in SHOWN:
        assert page(shop, CLIENT, target) in MEMBERS
