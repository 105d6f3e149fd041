"""Hosts with running guests: drained and taken back, libvirtd restarted under them, labels thrown about on them."""

import random

import pytest

from buckler.lab.host import restart_libvirtd
from buckler.lab.story.cast import TENANT, differences, wait_until
from buckler.model.operatorapi.documents import LabelRequest, Reference
from buckler.model.operatorapi.hosts import HostRequest
from buckler.model.pool import HostState
from tests.system.footprint import guests_of, remains

DRAINED = "host2"
TIERS = ("web", "app", "db")


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
