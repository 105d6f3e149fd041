"""An allowance with an end, published to a real agent that is then killed: it ends at its time, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from buckler.drivers.state.sqlite import SqliteState
from buckler.model.event import EventKind
from buckler.model.program import Program, Terms
from tests import packets as p
from tests.component.agenthost import AgentHost, agent_host
from tests.poolkit import Pool, program
from tests.privatehost import wait_until

ASKING = str(Path(__file__).parent / "asking.py")
TIMED, FOR_GOOD = 8080, 80
VM, PEER = (Pool.mac(1), "10.50.0.11"), (Pool.mac(2), "10.50.0.12")


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    with agent_host(vms=2) as made:
        made.start_agent()
        made.host.restart_libvirtd()
        made.define(1)
        assert made.start(1).returncode == 0
        made.wait_admitted(made.tap(1))
        yield made


def until(end: int) -> Program:
    """TCP 80 for good, TCP 8080 until then."""
    entries = (
        msgspec.structs.replace(each, terms=Terms(until=end)) if each.port == TIMED else each
        for each in program(FOR_GOOD, TIMED).entries
    )
    return Program(tuple(sorted(entries)))


def segment(flags: int, port: int, local: int, *, is_back: bool = False) -> list[str]:
    ends, ports = ((PEER, VM), (port, local)) if is_back else ((VM, PEER), (local, port))
    made = p.tcp(*ports, flags, sequence=5000 if is_back else 1000, acknowledgement=0 if flags == p.SYN else 1001)
    return ["tap_to_vm" if is_back else "tap_from_vm", p.ip_frame(*ends, 6, made).hex()]


def ask(host: AgentHost, *frames: list[str]) -> list[bool]:
    """Of programs in the kernel, not of the agent."""
    question = json.dumps({"ifindex": host.ifindex(host.tap(1)), "frames": frames})
    words = host.host.command(sys.executable, ASKING)
    done = subprocess.run(words, input=question, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def shake_hands(host: AgentHost, port: int, local: int) -> None:
    answer = ["tap_to_vm", p.ip_frame(PEER, VM, 6, p.tcp(port, local, 18, sequence=4999, acknowledgement=1000)).hex()]
    opening = ["tap_from_vm", p.ip_frame(VM, PEER, 6, p.tcp(local, port, p.SYN, sequence=999)).hex()]
    last = [
        "tap_from_vm",
        p.ip_frame(VM, PEER, 6, p.tcp(local, port, p.ACK, sequence=1000, acknowledgement=5000)).hex(),
    ]
    assert ask(host, opening, answer, last) == [True] * 3


def publish(host: AgentHost, shield: Program, **changes: object) -> None:
    """As a controller's stream would have: the agent reads it when it starts."""
    host.kill_agent()
    host.pool.set_programs(shield, shield)
    state = SqliteState(host.folder)
    host.pool.join(state, **changes)
    state.close()
    host.start_agent()
    wait_until(lambda: host.status().get("enforced") == host.pool.revision, 30)


def test_it_ends_with_the_agent_dead_and_nothing_else_is_cut(host: AgentHost) -> None:
    end = int(time.time()) + 25
    publish(host, until(end))
    host.kill_agent()
    shake_hands(host, TIMED, 4000)
    shake_hands(host, FOR_GOOD, 4001)
    followed = segment(p.ACK, TIMED, 4000, is_back=True), segment(p.ACK, FOR_GOOD, 4001, is_back=True)
    assert ask(host, *followed) == [True, True]
    assert time.time() < end, "the machine was too slow to ask before the end"
    time.sleep(max(0.0, end - time.time()) + 0.1)
    fresh = segment(p.SYN, TIMED, 4002), segment(p.SYN, FOR_GOOD, 4003)
    assert ask(host, *followed, *fresh) == [False, True, False, True]


def test_a_clock_before_the_manifest_ends_it_at_once_and_says_so(host: AgentHost) -> None:
    far = int(time.time()) + 100_000
    publish(host, until(far), issued_at=time.time())
    assert ask(host, segment(p.SYN, TIMED, 4010), segment(p.SYN, FOR_GOOD, 4011)) == [True, True]
    publish(host, until(far), issued_at=time.time() + 3600)
    assert ask(host, segment(p.SYN, TIMED, 4012), segment(p.SYN, FOR_GOOD, 4013)) == [False, True]
    (event,) = host.events(EventKind.CLOCK_DOUBTED)
    assert "behind the newest manifest" in event.cause
    publish(host, until(far), issued_at=time.time())
    assert ask(host, segment(p.SYN, TIMED, 4014)) == [True]
