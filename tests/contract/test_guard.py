"""What every guard does: in memory and in nftables, with both forms of its rules where the kernel can."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from buckler.drivers.inmemory.guard import InMemoryGuard
from buckler.drivers.nftables.guard import NftablesGuard
from buckler.model.shield import GuardState
from buckler.ports.guard import Guard
from tests.component.ground import add_bridge, open_veth, own_network, run

FULL = GuardState(
    bridges=frozenset({"br0", "br1"}),
    ports=frozenset({(77, "br0"), (78, "br1")}),
    gateways=frozenset({"br1"}),
    fabric="fab0",
    members=frozenset({"192.0.2.1", "192.0.2.2", "2001:db8::1"}),
    tunnel_ports=frozenset({4789, 8472}),
)
EMPTY = GuardState(frozenset(), frozenset())
Altered = Callable[[], None]


@pytest.fixture(params=["inmemory", "nftables"])
def guard(request: pytest.FixtureRequest) -> Iterator[tuple[Guard, Altered]]:
    if request.param == "inmemory":
        memory = InMemoryGuard()
        yield memory, memory.alter
        return
    with own_network():
        yield NftablesGuard(), lambda: run("nft insert rule bridge buckler forward accept")


@pytest.mark.parametrize("states", [(FULL,), (EMPTY,), (FULL, EMPTY, FULL), (EMPTY, FULL), (FULL, FULL)])
def test_any_state_follows_any_state(guard: tuple[Guard, Altered], states: tuple[GuardState, ...]) -> None:
    door, _ = guard
    assert door.observe() is None
    for state in states:
        door.apply(state)
        assert door.observe() == state
    door.remove()
    door.remove()
    assert door.observe() is None


def test_an_altered_rule_is_drift_and_is_put_right(guard: tuple[Guard, Altered]) -> None:
    door, alter = guard
    door.apply(FULL)
    alter()
    assert door.observe() is None
    door.apply(FULL)
    assert door.observe() == FULL


def test_a_watch_tells_of_every_hand_at_the_rules_until_it_is_stopped(guard: tuple[Guard, Altered]) -> None:
    door, alter = guard
    door.apply(FULL)
    told = threading.Event()
    stop = door.watch(told.set)
    for change in (alter, lambda: door.apply(FULL), door.remove):
        told.clear()
        change()
        assert told.wait(2)
    stop()
    told.clear()
    door.apply(FULL)
    assert not told.wait(0.2)


@pytest.mark.parametrize("command", [
    "nft flush chain bridge buckler prerouting",
    "nft delete table bridge buckler",
    "nft delete table inet buckler",
    "nft add element bridge buckler admitted { 99 }",
    "nft flush ruleset",
    "nft add table inet buckler '{ flags dormant; }'",
])  # fmt: skip
def test_every_hand_at_the_tables_is_seen(command: str) -> None:
    with own_network():
        door = NftablesGuard()
        door.apply(FULL)
        run(command)
        assert door.observe() is None
        door.apply(FULL)
        assert door.observe() == FULL


def test_other_tables_are_left_alone() -> None:
    with own_network():
        run("nft add table inet theirs; nft add chain inet theirs c '{ type filter hook input priority 0; }'")
        door = NftablesGuard()
        door.apply(FULL)
        door.remove()
        run("nft list chain inet theirs c")


def test_a_new_port_of_another_bridge_is_let_go_once_seen() -> None:
    """Only where rules go by port: there a port that nobody knows yet is closed, and shows as drift."""
    with own_network():
        door = NftablesGuard(by_bridge=False)
        state = GuardState(frozenset({"br0"}), frozenset())
        door.apply(state)
        add_bridge("br9")
        open_veth("their0", "br9")
        assert door.observe() is None
        door.apply(state)
        assert door.observe() == state
