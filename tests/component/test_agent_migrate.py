"""A VM moves between two real hosts: shielded and admitted before it resumes, whatever is killed on the way."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from buckler.drivers.libvirt.hypervisor import LibvirtHypervisor
from buckler.model.event import EventKind
from buckler.ports.hypervisor import HypervisorFailed
from tests.component.agenthost import STARTED, AgentHost, agent_host
from tests.privatehost import wait_until

SCRIPT = str(Path(__file__).parent / "killed_agent.py")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[AgentHost, AgentHost]]:
    with ExitStack() as stack:
        made = (stack.enter_context(agent_host(vms=1)), stack.enter_context(agent_host(vms=1)))
        made[1].pool = made[0].pool
        made[1].publish()
        _cable(made)
        for number, one in enumerate(made, 1):
            with (one.host.root / "etc/libvirt/qemu.conf").open("a") as file:
                file.write(f'migration_host = "10.98.0.{number}"\nmigration_address = "10.98.0.{number}"\n')
            one.start_agent()
            one.host.restart_libvirtd()
        made[0].define(1)
        assert made[0].start(1).returncode == 0
        yield made


def _cable(hosts: tuple[AgentHost, AgentHost]) -> None:
    pids = [one.host.pid for one in hosts]
    words = [
        "nsenter",
        "-t",
        str(pids[0]),
        "-n",
        "ip",
        "link",
        "add",
        "mig0",
        "type",
        "veth",
        "peer",
        "name",
        "mig0",
        "netns",
    ]
    subprocess.run([*words, str(pids[1])], check=True)
    for number, one in enumerate(hosts, 1):
        one.host.run("ip", "addr", "add", f"10.98.0.{number}/24", "dev", "mig0")
        one.host.run("ip", "link", "set", "mig0", "up")


def where(hosts: tuple[AgentHost, AgentHost]) -> tuple[AgentHost, AgentHost]:
    """(host that runs the VM, the other one)"""
    running = [one for one in hosts if "running" in one.host.virsh("domstate", "vm-1", is_checked=False)]
    assert len(running) == 1, "the VM runs on exactly one host"
    return running[0], next(one for one in hosts if one is not running[0])


def uri(host: AgentHost) -> str:
    return f"qemu+unix:///system?socket={host.host.root}/run/libvirt/libvirt-sock"


def migrate(source: AgentHost, destination: AgentHost) -> None:
    LibvirtHypervisor(source.host.uri).migrate(source.pool.uuid(1), uri(destination))


def test_the_destination_admits_before_the_guest_resumes_and_the_source_keeps_nothing(hosts):
    source, destination = where(hosts)
    migrate(source, destination)
    assert where(hosts) == (destination, source)
    destination.wait_admitted(destination.tap(1))
    kinds = [event.kind for event in destination.events()]
    assert kinds.index(EventKind.MIGRATION_PREPARED) < kinds.index(EventKind.INTERFACE_ADMITTED)
    wait_until(lambda: EventKind.MIGRATION_ARRIVED in [event.kind for event in destination.events()], 5)
    assert kinds.index(EventKind.INTERFACE_ADMITTED) < [e.kind for e in destination.events()].index(
        EventKind.MIGRATION_ARRIVED
    )
    wait_until(lambda: source.status()["taps"] == [], 5)
    wait_until(lambda: EventKind.MIGRATION_LEFT in [event.kind for event in source.events()], 5)


@pytest.mark.parametrize(
    "step",
    [
        "hook migrate",
        "answer migrate",
        "hook start",
        "before put-tap",
        "after put-tap",
        "before open-guard",
        "answer start",
    ],
)
def test_killed_at_a_step_of_arriving_the_vm_stays_where_it_was_and_can_move_next(hosts, step: str):
    source, destination = where(hosts)
    destination.kill_agent()
    destination.start_agent(SCRIPT, step, is_awaited=False)
    wait_until(lambda: destination.status().get("enforced"), STARTED)
    with pytest.raises(HypervisorFailed, match="no answer from the Buckler agent"):
        migrate(source, destination)
    assert where(hosts) == (source, destination)
    assert source.is_admitted(source.tap(1))
    destination.kill_agent()
    destination.start_agent()
    migrate(source, destination)
    assert where(hosts) == (destination, source)
    destination.wait_admitted(destination.tap(1))


def test_without_an_agent_on_the_source_it_moves_all_the_same(hosts):
    source, destination = where(hosts)
    source.kill_agent()
    migrate(source, destination)
    destination.wait_admitted(destination.tap(1))
    source.start_agent()
    assert source.status()["taps"] == []
