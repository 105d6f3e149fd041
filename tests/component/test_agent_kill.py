"""The agent killed with -9 at every step of attach, swap and admission: never an open tap, never a stuck VM."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.model.event import EventKind
from tests.component.agenthost import AgentHost, agent_host
from tests.poolkit import program
from tests.privatehost import wait_until

SCRIPT = str(Path(__file__).parent / "killed_agent.py")
# After one step is before the next: put-program, put-tap, open-guard follow each other.
ON_HOOK = ["hook start", "before put-program", "after put-program", "after put-tap", "after open-guard", "answer start"]
ON_BOOT = ["start", "opened", "started"]


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    with agent_host(vms=2) as made:
        made.start_agent()
        made.host.restart_libvirtd()
        made.kill_agent()
        made.define(1)
        yield made


@pytest.fixture(autouse=True)
def _ended(host: AgentHost) -> Iterator[None]:
    yield
    host.kill_agent()
    host.destroy(1)


def admitted(host: AgentHost) -> set[int]:
    """Indexes of taps that the guard lets through, read back from the kernel and not from the agent."""
    taps = {int(line.split(":")[0]) for line in host.host.run("ip", "-o", "link", "show", "type", "tun").splitlines()}
    return taps & {index for index, _ in host.guard_ports()}


def hanging(host: AgentHost) -> int:
    """How many links of our programs to taps are pinned: a link hangs as long as its pin is there."""
    return len(host.host.run("find", "/sys/fs/bpf/buckler", "-path", "*/links/*-tap_*").split())


@pytest.mark.parametrize("step", ON_HOOK)
def test_killed_while_a_vm_starts_it_is_refused_and_the_next_start_works(host: AgentHost, step: str):
    host.start_agent(SCRIPT, step, is_awaited=False)
    wait_until(lambda: host.status().get("enforced") or host.agent.poll() is not None, 20)
    refused = host.start(1)
    assert refused.returncode != 0, f"{step} did not occur"
    assert "no answer from the Buckler agent" in refused.stderr
    wait_until(lambda: host.agent.poll() is not None, 5)
    assert admitted(host) == set(), "with the agent dead no tap stands open"
    host.start_agent()
    assert host.start(1).returncode == 0
    host.wait_admitted(host.tap(1))


@pytest.mark.parametrize("step", ON_BOOT)
def test_killed_while_it_boots_a_running_vm_keeps_its_shield(host: AgentHost, step: str):
    host.start_agent()
    assert host.start(1).returncode == 0
    device = host.tap(1)
    host.kill_agent()
    before = admitted(host)
    assert before
    host.start_agent(SCRIPT, step, is_awaited=False)
    wait_until(lambda: host.agent.poll() is not None, 20)
    assert admitted(host) == before
    host.start_agent()
    host.wait_admitted(device)
    assert admitted(host) == before


@pytest.mark.parametrize("step", ["before put-program", "after put-program", "after put-tap", "after rejudge"])
def test_killed_while_policy_is_swapped_the_vm_keeps_a_whole_one(host: AgentHost, step: str):
    host.start_agent()
    assert host.start(1).returncode == 0
    device = host.tap(1)
    before, hung = admitted(host), hanging(host)
    assert before
    assert hung == 2
    host.kill_agent()
    port = 1000 + time.monotonic_ns() % 60000
    host.pool.set_programs(program(80, port), program(80))
    host.publish()
    host.start_agent(SCRIPT, step, is_awaited=False)
    wait_until(lambda: host.agent.poll() is not None, 20)
    assert (admitted(host), hanging(host)) == (before, hung), "with the agent dead its tap is open behind both programs"
    host.start_agent()
    host.wait_admitted(device)
    wait_until(lambda: host.status()["enforced"] == host.pool.revision, 5)


def test_libvirtd_restarted_with_the_agent_dead_kills_no_vm(host: AgentHost):
    host.start_agent()
    assert host.start(1).returncode == 0
    device = host.tap(1)
    host.kill_agent()
    before = admitted(host)
    assert before
    host.host.restart_libvirtd()
    time.sleep(1)
    assert host.host.virsh("domstate", "vm-1").strip() == "running"
    assert admitted(host) == before
    gaps = len(host.events(EventKind.GAP))
    host.start_agent()
    host.wait_admitted(device)
    assert len(host.events(EventKind.GAP)) == gaps + 1
