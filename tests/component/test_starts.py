"""A VM that floods from its first instruction is started a hundred times: nothing leaves it before its shield stands."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.component.agenthost import AgentHost, agent_host
from tests.component.flooding import FORBIDDEN_MAC, Observer
from tests.component.starting import flooding_xml, start_often
from tests.poolkit import Pool
from tests.privatehost import wait_until

STARTS = 100


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    with agent_host(vms=1) as made:
        made.start_agent()
        made.host.restart_libvirtd()
        yield made


@pytest.mark.timeout(900)
def test_a_hundred_starts_leak_nothing(host: AgentHost):
    result = start_often(host, STARTS)
    assert (result.starts, result.forbidden_seen, result.missed) == (STARTS, {}, 0)
    assert result.forbidden_sent >= STARTS
    assert result.allowed_seen["vx100"] >= STARTS


def test_the_observer_would_have_seen_it(host: AgentHost):
    """The same VM on the same bridge with the agent gone and what it left behind taken away."""
    host.kill_agent()
    host.host.run("nft", "flush", "ruleset")
    host.host.run("sh", "-c", "mv /etc/libvirt/hooks/qemu /etc/libvirt/hooks/qemu.away")
    host.host.restart_libvirtd()
    (host.host.root / "run/flood.xml").write_text(flooding_xml(host, 1))
    host.host.run("ip", "tuntap", "add", "other0", "mode", "tap")
    host.host.run("ip", "link", "set", "other0", "master", "br0", "up")
    observer = Observer(host.host.pid, FORBIDDEN_MAC, Pool.mac(1))
    try:
        host.host.virsh("create", "/run/flood.xml")
        wait_until(lambda: observer.elsewhere(FORBIDDEN_MAC), 20)
    finally:
        host.host.virsh("destroy", "vm-1", is_checked=False)
        observer.stop()
        time.sleep(0.1)
