"""Half-open connections in their sets: who is given away, who is spared, and that a flood touches nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.drivers.ebpf import layout, libbpf
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.drivers.ebpf.kernel import Kernel
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.ebpf.table import Table
from buckler.model.connection import Held, Rows, State
from buckler.ports.shield import ShieldFailed
from tests import packets as p
from tests.component.ground import SLOWNESS, Host, own_bpffs
from tests.component.test_connections import EGRESS, INGRESS, TWO, Tapped, shared, tapped
from tests.component.test_imported import LOCALS
from tests.contract.test_connections import row

__all__ = ["shared", "tapped"]
ZERO = layout.U32.pack(0)
FIRST = 10_000


@pytest.fixture
def one_set(tapped: Tapped) -> Iterator[Tapped]:
    """Without a secret all keys have one hash: eight places for all, and every look meets seven strangers."""
    secrets = tapped.host.kernel["secrets"]
    drawn = secrets.get(ZERO)
    assert drawn is not None
    secrets.put(ZERO, bytes(layout.SECRET.size))
    yield tapped
    secrets.put(ZERO, drawn)


def opens(tapped: Tapped, local: int) -> None:
    assert tapped.tcp(EGRESS, p.SYN, 1000, local=local) is Reason.NEW


def answers(tapped: Tapped, local: int) -> Reason:
    return tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001, local=local)


def test_the_oldest_is_given_away_and_only_it(one_set: Tapped) -> None:
    for local in range(FIRST, FIRST + 9):
        opens(one_set, local)
    assert one_set.counts() == (0, 8)
    assert answers(one_set, FIRST) is Reason.NO_CONNECTION
    for local in range(FIRST + 1, FIRST + 9):
        assert answers(one_set, local) is Reason.ESTABLISHED
        assert one_set.tcp(EGRESS, p.ACK, 1001, 5001, local=local) is Reason.ESTABLISHED
    assert one_set.counts() == (8, 0)


def test_one_that_was_answered_is_spared_once(one_set: Tapped) -> None:
    opens(one_set, FIRST)
    assert answers(one_set, FIRST) is Reason.ESTABLISHED
    for local in range(FIRST + 1, FIRST + 9):
        opens(one_set, local)
    assert answers(one_set, FIRST + 1) is Reason.NO_CONNECTION
    assert one_set.tcp(EGRESS, p.ACK, 1001, 5001, local=FIRST) is Reason.ESTABLISHED, (
        "the answered one was not given away"
    )


def test_answered_ones_hold_no_set_for_good(one_set: Tapped) -> None:
    for local in range(FIRST, FIRST + 8):
        opens(one_set, local)
        assert answers(one_set, local) is Reason.ESTABLISHED
    opens(one_set, FIRST + 8)
    assert answers(one_set, FIRST + 8) is Reason.ESTABLISHED
    assert one_set.tcp(EGRESS, p.ACK, 1001, 5001, local=FIRST) is Reason.NO_CONNECTION


def test_a_place_that_is_being_written_is_nobodys(one_set: Tapped) -> None:
    """As another CPU would leave it in the middle: not found, not taken, not told."""
    opens(one_set, FIRST)
    with EbpfConnections(one_set.host.kernel)._table(one_set.ifindex, "waiting") as table:
        number = next(key for key, value in table.items().items() if any(value))
        held = table.get(number) or b""
        table.put(number, layout.U32.pack(layout.TAG_TAKEN) * layout.HALF_OPEN_WAYS + held[4 * layout.HALF_OPEN_WAYS :])
        assert one_set.counts() == (0, 0)
        assert answers(one_set, FIRST) is Reason.NO_CONNECTION
        assert one_set.tcp(EGRESS, p.SYN, 1000, local=FIRST) is Reason.CONNECTIONS_FULL


def test_a_flood_fills_every_place_and_no_established_one_falls(tapped: Tapped) -> None:
    tapped.shake_hands()
    count = int(8 * layout.CONNECTIONS_HALF_OPEN / SLOWNESS)
    for number in range(count):
        opens(tapped, 5000 + number % 60_000)
    established, half_open = tapped.counts()
    assert established == 1
    if SLOWNESS == 1:
        assert half_open == layout.CONNECTIONS_HALF_OPEN, "a keyed hash leaves no set empty"
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001, data=b"x") is Reason.ESTABLISHED


def test_a_half_open_one_that_comes_over_does_not_replace_one_that_was_judged_here(tapped: Tapped) -> None:
    opens(tapped, 4000)
    came = row(state=State.REPLIED, held=Held.HALF_OPEN, ports=(80, 4000), remote=TWO.ipv4, left=60_000)
    written = EbpfConnections(tapped.host.kernel).write(tapped.ifindex, Rows(LOCALS, came))
    assert (written.put, written.newer) == (0, 1)
    assert tapped.counts() == (0, 1)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.NO_CONNECTION, "it was not answered here"
    assert answers(tapped, 4000) is Reason.ESTABLISHED


def test_one_that_came_over_half_open_counts_as_such_and_is_told_again(tapped: Tapped) -> None:
    came = row(state=State.NEW, held=Held.HALF_OPEN, ports=(80, 4000), remote=TWO.ipv4, left=60_000)
    doors = EbpfConnections(tapped.host.kernel)
    assert doors.write(tapped.ifindex, Rows(LOCALS, came)).put == 1
    assert tapped.counts() == (0, 1)
    (held,) = {doors.read(tapped.ifindex).rows[3]}
    assert held == Held.HALF_OPEN
    assert tapped.tcp(EGRESS, p.ACK, 1, 1, data=b"x") is Reason.NO_CONNECTION, "unanswered, it carries nothing"
    assert answers(tapped, 4000) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    assert tapped.counts() == (1, 0)


@pytest.mark.parametrize("name", ["half_open", "settings"])
def test_pins_of_another_layout_are_refused(tmp_path: Path, name: str) -> None:
    with own_bpffs(tmp_path / "bpffs") as pins:
        first = Kernel(pins)
        first.open()
        strange = Table.create(libbpf.HASH, name, (4, 48), 1)
        (first.pins.maps / name).unlink(missing_ok=True)
        libbpf.pin(strange.fd, first.pins.maps / name)
        strange.close()
        first.close()
        with pytest.raises(ShieldFailed, match="another layout"):
            Kernel(pins).open()


def test_the_secret_is_drawn_once_and_stays(shared: Host, tapped: Tapped) -> None:
    drawn = shared.kernel["secrets"].get(ZERO) or b""
    assert len(set(layout.SECRET.unpack(drawn))) == 11
    again = Kernel(shared.kernel.pins.maps.parent)
    assert again.open()
    assert again["secrets"].get(ZERO) == drawn
    again.close()
