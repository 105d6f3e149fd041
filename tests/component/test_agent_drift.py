"""What is changed behind the agent's back on a real host is put back within two seconds, and told."""

from __future__ import annotations

import ast
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from buckler.agent.doorman import Request, ask
from buckler.model.bundle import ServiceMember, ServicePort, VirtualService
from buckler.model.event import EventKind
from tests.component.agenthost import AgentHost, agent_host
from tests.poolkit import Pool, card, domain, program
from tests.privatehost import wait_until

SECOND, STRANGE = "52:54:00:00:00:99", "52:54:00:00:00:55"


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    with agent_host(vms=2) as made:
        made.pool.endpoints += (made.pool.endpoint(1, program(80), mac=SECOND, address="10.50.0.99"),)
        made.publish()
        made.start_agent()
        made.host.restart_libvirtd()
        yield made


@pytest.fixture
def device(host: AgentHost) -> Iterator[str]:
    host.define(1, host.pool.passport(1, (Pool.mac(1), SECOND)))
    started = host.start(1)
    assert started.returncode == 0, started.stderr
    name = host.tap(1)
    host.wait_admitted(name)
    time.sleep(0.3)
    yield name
    host.destroy(1)


def told(host: AgentHost, kind: EventKind, count: int, seconds: float = 3) -> list[dict]:
    wait_until(lambda: len(host.events(kind)) > count, seconds)
    return [event.detail for event in host.events(kind)]


def test_a_deleted_guard_is_back_within_two_seconds(host: AgentHost, device: str):
    before, count = host.guard(), len(host.events(EventKind.DRIFT_REPAIRED))
    host.host.run("sh", "-c", "nft list tables | while read _ f n; do nft delete table $f $n; done")
    began = time.monotonic()
    wait_until(lambda: host.guard().count("table") == before.count("table") and host.is_admitted(device), 5)
    assert time.monotonic() - began < 2
    assert "guard" in str(told(host, EventKind.DRIFT_REPAIRED, count)[-1]["differed"])


def test_a_rule_added_to_the_guard_by_hand_is_drift(host: AgentHost, device: str):
    count = len(host.events(EventKind.DRIFT_REPAIRED))
    chains = [line.split()[1] for line in host.guard().splitlines() if line.strip().startswith("chain ")]
    table = next(line.split()[1:3] for line in host.guard().splitlines() if line.startswith("table bridge"))
    host.host.run("nft", "insert", "rule", *table, chains[0], "accept")
    told(host, EventKind.DRIFT_REPAIRED, count)
    wait_until(lambda: host.is_admitted(device), 2)


def test_a_shield_taken_from_its_tap_is_back_within_two_seconds(host: AgentHost, device: str):
    index, count = host.ifindex(device), len(host.events(EventKind.DRIFT_REPAIRED))
    links = host.host.run("find", "/sys/fs/bpf/buckler", "-path", f"*links*{index}*", "-type", "f").split()
    assert len(links) == 2
    began = time.monotonic()
    host.host.run("rm", links[0])
    detail = told(host, EventKind.DRIFT_REPAIRED, count)[-1]
    assert time.monotonic() - began < 2.5
    assert f"put-tap {device}" in detail["differed"]
    assert host.host.run("find", links[0], is_checked=False).strip() == links[0]


def test_a_removed_link_is_seen_within_two_seconds_though_hooks_keep_the_agent_busy(host: AgentHost, device: str):
    index, count = host.ifindex(device), len(host.events(EventKind.DRIFT_REPAIRED))
    socket, rogue = host.host.root / "run/buckler/agent.sock", domain(9, None, card(STRANGE))
    is_over = threading.Event()

    def keep_busy() -> None:
        while not is_over.is_set():
            ask(socket, Request("start", xml=rogue))

    callers = [threading.Thread(target=keep_busy) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        links = host.host.run("find", "/sys/fs/bpf/buckler", "-path", f"*links*{index}*", "-type", "f").split()
        began = time.monotonic()
        host.host.run("rm", links[0])
        wait_until(lambda: host.host.run("find", links[0], is_checked=False).strip() == links[0], 5)
        assert time.monotonic() - began < 2
    finally:
        is_over.set()
        for caller in callers:
            caller.join()
        ask(socket, Request("release", xml=rogue))
    told(host, EventKind.DRIFT_REPAIRED, count)


_MEDDLE = """
from pathlib import Path
from buckler.drivers.ebpf.kernel import DEFAULT_PINS, Kernel
from buckler.drivers.ebpf.services import EbpfServices
from buckler.model.shield import Service, ServiceKey
kernel = Kernel(Path(DEFAULT_PINS))
kernel.open()
services = EbpfServices(kernel)
standing = services.services()
"""
_HIJACK = """
for key, service in standing.items():
    services.put_services({key: Service(service.number, service.ports, service.members[:1])})
services.put_services({ServiceKey(1, "10.50.0.251"): Service(9, (), ())})
"""


def test_virtual_addresses_changed_behind_its_back_are_put_right_and_told(host: AgentHost, device: str):
    host.pool.services = (
        VirtualService(
            number=4,
            name="shop",
            tenant="default",
            address="10.50.0.250",
            ports=(ServicePort(6, 80, 80),),
            members=tuple(ServiceMember(f"10.50.0.{10 + number}", Pool.mac(number)) for number in (1, 2)),
        ),
    )
    host.publish()
    host.kill_agent()
    host.start_agent()

    def standing() -> list[str]:
        show = "print([(key.address, s.number, len(s.members)) for key, s in sorted(standing.items(), key=str)])"
        return ast.literal_eval(host.host.run(sys.executable, "-c", _MEDDLE + show))

    right = [("10.50.0.250", 4, 2)]
    wait_until(lambda: standing() == right and host.is_admitted(device), 10)
    for meddling, steps in (
        (_HIJACK, {"put-services", "delete-services"}),
        ("services.delete_services(frozenset(standing))", {"put-services"}),
        ("kernel['service_numbers'].delete((4).to_bytes(4, 'little'))", {"put-services"}),
    ):
        count = len(host.events(EventKind.DRIFT_REPAIRED))
        host.host.run(sys.executable, "-c", _MEDDLE + meddling)
        assert steps <= set(told(host, EventKind.DRIFT_REPAIRED, count, 10)[-1]["differed"])
        assert standing() == right
    host.pool.services = ()
    host.publish()
    host.kill_agent()
    host.start_agent()
    wait_until(lambda: standing() == [] and host.is_admitted(device), 10)


def test_learning_forbidden_by_hand_is_allowed_again(host: AgentHost, device: str):
    host.host.run("bridge", "link", "set", "dev", device, "learning", "off")
    wait_until(lambda: "learning on" in host.host.run("bridge", "-d", "link", "show", "dev", device), 3)


def test_a_foreign_card_plugged_in_is_cut_within_a_second(host: AgentHost, device: str):
    count = len(host.events(EventKind.INTERFACE_DETACHED))
    (host.host.root / "run/card.xml").write_text(card(STRANGE))
    host.host.virsh("attach-device", "vm-1", "/run/card.xml", "--live")
    detail = told(host, EventKind.INTERFACE_DETACHED, count)[-1]
    assert (detail["mac"], detail["was_guarded"]) == (STRANGE, True)
    assert detail["exposure_seconds"] < 1
    xml = host.host.virsh("dumpxml", "vm-1")
    assert STRANGE not in xml or "<link state='down'/>" in xml
    assert host.is_admitted(device)


def test_a_card_that_no_shield_covers_is_cut_and_the_vm_closed_until_it_is_gone(host: AgentHost, device: str):
    count = len(host.events(EventKind.INTERFACE_DETACHED))
    (host.host.root / "run/card.xml").write_text(card("52:54:00:00:00:56", kind="user", bridge=""))
    host.host.virsh("attach-device", "vm-1", "/run/card.xml", "--live")
    detail = told(host, EventKind.INTERFACE_DETACHED, count)[-1]
    assert (detail["was_guarded"], detail["exposure_seconds"] < 1) == (False, True)
    wait_until(lambda: not host.is_admitted(device) or "type='user'" not in host.host.virsh("dumpxml", "vm-1"), 2)


def test_the_vms_own_second_card_is_admitted_when_it_is_plugged_in(host: AgentHost, device: str):
    (host.host.root / "run/card.xml").write_text(card(SECOND))
    host.host.virsh("attach-device", "vm-1", "/run/card.xml", "--live")
    wait_until(lambda: len(host.status()["taps"]) == 2, 3)


def test_exposure_counts_from_the_card_itself_and_not_from_an_earlier_one(host: AgentHost, device: str):
    (host.host.root / "run/card.xml").write_text(card(SECOND))
    host.host.virsh("attach-device", "vm-1", "/run/card.xml", "--live")
    wait_until(lambda: len(host.status()["taps"]) == 2, 3)
    time.sleep(1.5)
    count = len(host.events(EventKind.INTERFACE_DETACHED))
    (host.host.root / "run/card.xml").write_text(card(STRANGE))
    host.host.virsh("attach-device", "vm-1", "/run/card.xml", "--live")
    assert told(host, EventKind.INTERFACE_DETACHED, count)[-1]["exposure_seconds"] < 1


def test_a_channel_plugged_in_beside_the_network_closes_the_vm_within_a_second(host: AgentHost, device: str):
    count = len(host.events(EventKind.INTERFACE_REFUSED))
    (host.host.root / "run/memory.xml").write_text(
        "<shmem name='beside'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
    )
    host.host.virsh("attach-device", "vm-1", "/run/memory.xml", "--live")
    wait_until(lambda: not host.is_admitted(device), 1)
    wait_until(lambda: len(host.events(EventKind.INTERFACE_REFUSED)) > count, 3)
    assert "shared memory between VMs" in host.events(EventKind.INTERFACE_REFUSED)[-1].cause


def test_a_new_pass_costs_little(host: AgentHost, device: str):
    assert host.status()["pass_seconds"] < 0.5
