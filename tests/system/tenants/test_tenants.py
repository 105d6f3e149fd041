"""Three tenants with the same addresses: each reaches its own and nobody else, wherever its machines are, and reads its own."""

import json

import msgspec
import pytest

from buckler.lab.story.cast import wait_until
from buckler.lab.story.probing import watch
from tests.system.tenants.allpairs import differences
from tests.system.tenants.lab import BLUE, GREEN, RED, as_file
from tests.system.tenants.policysets import open_policies

pytestmark = pytest.mark.timeout(300)
SHARED = "10.50.0.17", "fd50::11"
ASKING = {RED: "red-2", BLUE: "blue-2", GREEN: "green-2"}
PLACES = (
    {"red-1": "host1", "blue-1": "host1", "green-1": "host1"},
    {"red-1": "host1", "blue-1": "host2", "green-1": "host1"},
    {"red-1": "host2", "blue-1": "host1", "green-1": "host2"},
    {"red-1": "host2", "blue-1": "host2", "green-1": "host2"},
)
"""Where the three that have one address run, one after the other: together and apart."""


@pytest.fixture
def opened(lab):
    """Every tenant allows everything to everybody."""
    lab.pool.apply(as_file("open", open_policies()))
    lab.pool.wait_for_hosts()
    return lab


def answers(lab):
    """Who answers at the address that three have, by who asks."""
    found = {}
    for tenant, name in ASKING.items():
        for address in SHARED:
            told = lab.centre.execute(name, f"probe get tcp/{address}/80")
            found[tenant, address] = told.output.strip()
    return found


def test_one_address_is_another_machine_in_each_network_wherever_they_run(opened, pairs):
    expected = {(tenant, address): f"hello from {tenant}-1" for tenant in ASKING for address in SHARED}
    for places in PLACES:
        for guest, host in places.items():
            opened.centre.migrate(guest, host)
        wait_until(f"each tenant has its own at {places}", lambda: answers(opened) == expected, seconds=40, pause=1)
    answered, arrived = pairs.ask(pairs.neighbours)
    assert differences(answered, pairs.neighbours) == ()
    assert differences(arrived, pairs.neighbours) == ()


def test_frames_of_another_tag_never_arrive(opened):
    """Red and green share a bridge: each sends frames as the other would, to the other's MAC and address."""
    for origin, target, card in (("red-1", "green-2", "eth0.20"), ("green-1", "red-2", "eth0")):
        guest, neighbour = opened.centre.plan.guest(origin), opened.centre.plan.guest(target)
        eyes = watch(opened.centre, target, "foreign", [guest.mac])
        make = f"ip link add link eth0 name {card} type vlan id 20; ip link set {card} up; " if "." in card else ""
        run_in(
            opened, origin, f"{make}ip addr add 10.60.0.1/24 dev {card}; ip route add {neighbour.ipv4}/32 dev {card}"
        )
        run_in(opened, origin, f"arp -i {card} -s {neighbour.ipv4} {neighbour.mac}")
        before = sent(opened, origin, card)
        told = opened.centre.execute(
            origin, f"probe scan 2000 tcp/{neighbour.ipv4}/80 udp/{neighbour.ipv4}/53 icmp/{neighbour.ipv4}"
        )
        assert sent(opened, origin, card) > before + 3, "they did leave the guest"
        assert "open" not in told.output
        assert "refused" not in told.output
        assert eyes.stop() == {guest.mac: "0"}
        undo = f"ip link del {card}" if make else f"ip addr del 10.60.0.1/24 dev {card}"
        run_in(
            opened, origin, f"arp -d {neighbour.ipv4} -i {card}; ip route del {neighbour.ipv4}/32 dev {card}; {undo}"
        )


def test_what_is_asked_for_one_tenant_names_nothing_of_another(opened):
    """There is one operator's door, and who may use it may ask for everybody; this is what answers for a tenant say."""
    foreign = [BLUE, GREEN, *(guest.uuid for guest in opened.centre.plan.guests if not guest.name.startswith(RED))]
    with opened.pool.operator() as client:
        told = {
            "explain": client.explain("red-2", "red-1", "TCP", 80, RED),
            "explain an address": client.explain("red-2", SHARED[0], "TCP", 80, RED),
            "reach": client.reach(RED),
            "vms": client.vms(RED),
            "vm": client.vm("red-1", RED),
            "history": client.history("red-1", RED),
            "what bound it": client.bound_policy("red-1", RED),
            "passport": client.passport("red-1", RED),
            "documents": client.documents(tenant=RED),
            "load": client.load(RED),
        }
        numbers = [each.index for each in client.history("red-1", RED)]
        told |= {f"proof {number}": client.entry_proof(number) for number in numbers[:5]}
    assert numbers
    found = {what: words(said, foreign) for what, said in told.items()}
    assert {what: said for what, said in found.items() if said} == {}


def words(said, foreign):
    text = json.dumps(msgspec.to_builtins(said))
    return [each for each in foreign if each in text]


def sent(lab, guest, card):
    return int(run_in(lab, guest, f"cat /sys/class/net/{card}/statistics/tx_packets"))


def run_in(lab, guest, command):
    answer = lab.centre.execute(guest, command)
    assert answer.code == 0, (command, answer.output)
    return answer.output
