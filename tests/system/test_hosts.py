"""Hosts with running guests: drained and taken back, libvirtd restarted under them, labels thrown about on them."""

import json
import random

import pytest

from buckler.lab.host import CONNECTION, restart_libvirtd
from buckler.lab.machine import processes_of
from buckler.lab.plan import BRIDGE, OUTSIDE_PORT, TUNNEL, UPLINK
from buckler.lab.story.cast import TENANT, differences, wait_until
from buckler.model.operatorapi.documents import LabelRequest, Reference
from buckler.model.operatorapi.hosts import HostRequest
from buckler.model.pool import HostState

DRAINED = "host2"
PINS = "/sys/fs/bpf/buckler"
MAPS_OF_TAPS = ("tap_index", "own_addresses", "residents", "policies", "established", "half_open", "fragments")
STANDING = {"lo", BRIDGE, TUNNEL, UPLINK, OUTSIDE_PORT}
TIERS = ("web", "app", "db")


def guests_of(cast, host):
    return {name for name, place in cast.centre.domains().items() if place == host}


def remains(cast, host):
    """Name everything on a host that is there for the sake of a guest, by where it stands."""

    def on_host(*command):
        return cast.centre.run_on(host, *command)

    pins = on_host("find", PINS, "-type", "f").split()
    processes = processes_of([cast.centre.plan.host(host).namespace]).values()
    guard = json.loads(on_host("nft", "-j", "list", "table", "bridge", "buckler"))["nftables"]
    sets = {one["set"]["name"]: one["set"].get("elem", []) for one in guard if "set" in one}
    return {
        "domains": on_host("virsh", "-q", "-c", CONNECTION, "list", "--all", "--name").split(),
        "processes": [line for line in processes if "qemu-system" in line],
        "taps": [name for card in json.loads(on_host("ip", "-j", "link")) if (name := card["ifname"]) not in STANDING],
        "links": [pin for pin in pins if "/links/" in pin and "-tap_" in pin],
        "programs": [pin for pin in pins if "/policies/" in pin],
        **{f"map {name}": entries_of(on_host, name) for name in MAPS_OF_TAPS},
        **{f"guard's {name}": [port for port in sets[name] if not is_standing(port)] for name in ("ports", "admitted")},
    }


def is_standing(port):
    """Say whether an element of the guard's sets, a port or a port and its bridge, is one of the host itself."""
    return (port["concat"][0] if isinstance(port, dict) else port) in STANDING


def entries_of(on_host, name):
    dump = json.loads(on_host("bpftool", "-j", "map", "dump", "pinned", f"{PINS}/maps/{name}"))
    return [entry.get("key") for entry in dump if "error" not in str(entry.get("value"))]


@pytest.mark.timeout(240)
def test_nothing_of_its_guests_remains_on_a_drained_host(cast):
    before, home = cast.probed(cast.expected()), guests_of(cast, DRAINED)
    assert len(home) >= 2
    assert all(remains(cast, DRAINED).values()), f"this test sees all that stands for a guest: {remains(cast, DRAINED)}"
    with cast.operator() as client:
        change = client.drain(DRAINED, HostRequest(reason="new memory"))
        assert {task.vm for task in change.tasks} == home
        assert not change.staying
        wait_until("it is drained", lambda: client.host(DRAINED).state is HostState.DRAINED, seconds=90)
    assert not guests_of(cast, DRAINED)
    wait_until(f"nothing remains of {home}", lambda: not any(remains(cast, DRAINED).values()), seconds=15)
    assert cast.probed(before) == before
    with cast.operator() as client:
        client.undrain(DRAINED, HostRequest(reason="it has its memory"))
        wait_until("it takes VMs again", lambda: client.host(DRAINED).state is HostState.ACTIVE)
    cast.pool.wait_for_hosts()
    for name in home:
        cast.centre.migrate(name, DRAINED)
    assert guests_of(cast, DRAINED) == home
    assert cast.probed(before) == before


@pytest.mark.timeout(240)
def test_guests_live_shielded_through_a_restart_of_libvirtd_without_agents(cast):
    before, places = cast.probed(cast.expected()), cast.centre.domains()
    hosts = cast.centre.plan.hosts
    assert sum(cast.pool.kill(host.name, "buckler agent") for host in hosts) == len(hosts)
    for host in hosts:
        restart_libvirtd(cast.centre.pid(host.name))
    assert cast.centre.domains() == places
    assert differences(before, cast.probed(before)) == ()
    for host in hosts:
        cast.pool.start_agent(host.name)
    cast.pool.wait_for_hosts()
    assert cast.centre.domains() == places
    assert differences(before, cast.probed(before)) == ()


@pytest.mark.timeout(300)
def test_the_matrix_is_what_reach_says_after_labels_were_thrown_about(cast):
    dice = random.Random()
    seed = dice.randrange(1_000_000)
    dice.seed(seed)
    names = ("web1", "web2", "app", "db", "attacker")
    with cast.operator() as client:
        labels = {name: dict(client.vm(name, TENANT).labels) for name in names}
    try:
        for _ in range(3):
            relabel(cast, {name: {"app": "shop", "tier": dice.choice(TIERS)} for name in names})
            assert surprises(cast) == (), f"seed {seed}"
    finally:
        relabel(cast, labels)
    assert surprises(cast) == ()


def surprises(cast):
    expected = cast.expected()
    return differences(expected, cast.probed(expected))


def relabel(cast, labels):
    with cast.operator() as client:
        for name, wanted in labels.items():
            known = set(client.vm(name, TENANT).labels)
            remove = tuple(key for key in known - wanted.keys() if not key.startswith("buckler.io/"))
            client.label(
                Reference(kind="VM", name=name, tenant=TENANT), LabelRequest(set=wanted, remove=remove, overwrite=True)
            )
    cast.pool.wait_for_hosts()
