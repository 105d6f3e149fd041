"""A real agent, a real libvirtd, real taps and a real kernel: from the hook's question to the admitted port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from buckler.model.event import EventKind
from tests.component.agenthost import AgentHost, agent_host
from tests.poolkit import Pool, card
from tests.privatehost import wait_until


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    with agent_host() as made:
        made.start_agent()
        made.host.restart_libvirtd()  # libvirt looks for its hook when it starts
        yield made


@pytest.fixture
def vm(host: AgentHost) -> Iterator[int]:
    host.define(1)
    started = host.start(1)
    assert started.returncode == 0, started.stderr + host.log()
    yield 1
    host.destroy(1)
    host.host.virsh("undefine", "vm-1", is_checked=False)


def test_a_started_vm_is_admitted(host: AgentHost, vm: int):
    device = host.tap(vm)
    assert host.is_admitted(device), host.log()
    assert (host.ifindex(device), "br0") in host.guard_ports()
    wait_until(lambda: host.status()["enforced"] == host.status()["wanted"], 5)


def test_it_was_admitted_before_qemu_ran(host: AgentHost, vm: int):
    kinds = [
        event.kind for event in host.events() if event.kind in (EventKind.INTERFACE_ADMITTED, EventKind.DOMAIN_STARTED)
    ]
    assert kinds[-2:] == [EventKind.INTERFACE_ADMITTED, EventKind.DOMAIN_STARTED]


def test_a_destroyed_vm_leaves_no_port(host: AgentHost):
    host.define(2)
    assert host.start(2).returncode == 0
    device = host.tap(2)
    before = host.ifindex(device)
    host.destroy(2)
    wait_until(lambda: not host.is_admitted(device), 5)
    assert before not in {index for index, _ in host.guard_ports()}
    links = host.host.run("find", "/sys/fs/bpf/buckler", "-name", f"*{before}*")
    assert links == ""


def test_a_twin_is_refused_and_the_administrator_is_told_why(host: AgentHost):
    host.define(3, host.pool.passport(2))
    refused = host.start(3)
    assert refused.returncode != 0
    assert "passport was issued to" in refused.stderr


def test_a_vm_with_a_socket_to_the_host_is_refused(host: AgentHost):
    host.define(3, "own", card(Pool.mac(3)), extra="<vsock model='virtio'><cid auto='yes'/></vsock>")
    refused = host.start(3)
    assert refused.returncode != 0
    assert "vsock" in refused.stderr


def test_a_rogue_starts_and_stays_closed(host: AgentHost):
    host.define(9, None, card("52:54:00:00:00:99"))
    assert host.start(9).returncode == 0
    device = host.tap(9)
    wait_until(lambda: host.events(EventKind.DOMAIN_ROGUE), 5)
    assert not host.is_admitted(device)
    host.destroy(9)
