"""One contract for ports/state.py, on memory and on SQLite, the latter also across a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.agentapi import Counter
from buckler.model.bundle import Residence
from buckler.model.event import Event, EventKind
from buckler.model.ids import Digest, HostId, VmId
from buckler.model.sample import Sample, Totals
from buckler.ports.state import Membership, Remembered, Share, State, StateFailed, Tally

MEMBERSHIP = Membership("shop", HostId("h"), "hv1", ("https://10.0.0.1:8443",), "root", "PEM")


@pytest.fixture(params=["memory", "sqlite"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    return InMemoryState() if request.param == "memory" else SqliteState(tmp_path / "agent")


def event(number: int) -> Event:
    return Event(EventKind.DOMAIN_STARTED, at=float(number), detail={"n": number})


def test_the_host_key_is_made_once(state: State):
    assert len(state.host_key()) == 32
    assert state.host_key() == state.host_key()


def test_what_is_put_is_kept(state: State):
    assert (state.membership(), state.document("manifest"), state.remembered()) == (None, "", Remembered())
    state.put_membership(MEMBERSHIP)
    state.put_document("manifest", "a.b.c")
    state.remember(Remembered(at=2.0, revision=7, domains={"u": "running"}, taps=("vnet0",)))
    state.put_residence(Residence(VmId("v"), HostId("h"), 1, 1.0))
    state.put_residence(Residence(VmId("v"), HostId("h"), 2, 3.0))
    assert state.membership() == MEMBERSHIP
    assert state.document("manifest") == "a.b.c"
    assert state.remembered().revision == 7
    assert state.residences() == {VmId("v"): Residence(VmId("v"), HostId("h"), 2, 3.0)}


def test_tallies_are_kept_by_their_keys(state: State):
    first, second = (Tally(Counter(key, 1, 5, 500, "web", "db"), 5, 500) for key in "ab")
    state.put_tallies([first, second])
    later = Tally(Counter("b", 1, 9, 900, "web", "db"), 4, 400)
    state.put_tallies([later])
    assert state.tallies() == {"a": first, "b": later}
    state.forget_tallies(["a", "never"])
    assert state.tallies() == {"b": later}


def test_shares_and_samples_are_kept_together_and_missing_ones_show_by_number(state: State):
    vm, other = VmId("v"), VmId("w")
    share = Share(vm, Totals(cpu_ns=5), 1, "run", Totals(cpu_ns=5), {7: Totals(sent_packets=2)})
    state.put_shares([share], [Sample(vm, float(at), 1, Totals(cpu_ns=at)) for at in range(1, 6)], most=3)
    state.put_shares([Share(other)])
    assert state.shares() == {vm: share, other: Share(other)}
    assert [(kept.sequence, kept.totals.cpu_ns) for kept in state.samples(2)] == [(3, 3), (4, 4)]
    state.forget_samples(5)
    assert state.samples(9) == []
    state.put_shares([], [Sample(vm, 9.0, 1, Totals())], most=3)
    assert [kept.sequence for kept in state.samples(9)] == [6]


def test_what_vms_brought_along_is_kept_by_kind(state: State):
    for body in (b"old", b"new"):
        state.put_carried("performance", VmId("v"), body)
    state.put_carried("counters", VmId("v"), b"x")
    assert (state.carried("performance"), state.carried("none")) == ({"v": b"new"}, {})


def test_objects_not_needed_are_forgotten(state: State):
    a, b, c = Digest("a"), Digest("b"), Digest("c")
    state.put_policy({"manifest": "one"}, {a: b"{}", b: b"{}"}, None)
    assert state.objects(frozenset({a, b, c})) == {a: b"{}", b: b"{}"}
    state.put_policy({"manifest": "other"}, {c: b"[]"}, frozenset({b, c}))
    assert state.objects(frozenset({a, b, c})) == {b: b"{}", c: b"[]"}
    assert state.objects(frozenset({c})) == {c: b"[]"}
    assert state.document("manifest") == "other"


def test_events_are_numbered_and_leave_only_when_committed(state: State):
    assert [state.record(event(n)).sequence for n in (1, 2, 3)] == [1, 2, 3]
    assert [kept.sequence for kept in state.pending(2)] == [1, 2]
    state.forget_through(2)
    assert [(kept.sequence, kept.detail) for kept in state.pending(9)] == [(3, {"n": 3})]


def test_a_number_is_never_used_again(state: State):
    state.record(event(1))
    state.forget_through(1)
    assert state.record(event(2)).sequence == 2


def test_a_task_is_done_at_most_once(state: State):
    assert not state.is_done("t")
    state.mark_done("t")
    state.mark_done("t")
    assert state.is_done("t")


def test_sqlite_keeps_everything_across_a_restart(tmp_path: Path):
    first = SqliteState(tmp_path)
    key = first.host_key()
    first.put_membership(MEMBERSHIP)
    first.record(event(1))
    first.forget_through(1)
    first.mark_done("t")
    first.close()
    second = SqliteState(tmp_path)
    assert (second.host_key(), second.membership(), second.is_done("t")) == (key, MEMBERSHIP, True)
    assert second.record(event(2)).sequence == 2


def test_sqlite_files_are_private(tmp_path: Path):
    SqliteState(tmp_path / "agent").host_key()
    modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "agent").iterdir()}
    assert modes["host.key"] == modes["state.db"] == 0


def test_a_closed_or_broken_file_raises_one_exception(tmp_path: Path):
    state = SqliteState(tmp_path)
    state.close()
    with pytest.raises(StateFailed):
        state.record(event(1))
    (tmp_path / "state.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StateFailed):
        SqliteState(tmp_path)
