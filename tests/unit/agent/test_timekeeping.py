"""A host whose clock is behind takes timed allowances as ended, says why once, and comes back when the clock does."""

from __future__ import annotations

import pytest

from buckler.agent.recorder import Recorder
from buckler.agent.timekeeping import Timekeeper
from buckler.drivers.inmemory.shield import InMemoryShield
from buckler.drivers.inmemory.state import InMemoryState
from buckler.model.bundle import Manifest
from buckler.model.canonical import digest_of
from buckler.model.event import Event, EventKind
from buckler.model.ids import HostId, Revision
from buckler.ports.state import StateFailed

NOON = 1_800_000_000.0


def manifest(issued_at: float, revision: int = 1) -> Manifest:
    return Manifest(
        pool="shop", host=HostId("h1"), host_name="hv1", revision=Revision(revision), stage="steady",  # type: ignore[arg-type]
        issued_at=issued_at, root=digest_of(b""), members=digest_of(b""),
    )  # fmt: skip


class Host:
    """A host whose two clocks the test moves."""

    def __init__(self) -> None:
        self.state, self.shield = InMemoryState(), InMemoryShield(set())
        self.wall, self.boot = NOON, 1000.0
        recorder = Recorder(self.state, HostId("h1"), lambda: None)
        self.keeper = Timekeeper(self.shield, recorder, lambda: self.wall, lambda: self.boot)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds

    def keep(self, manifest: Manifest | None) -> None:
        """As each pass of the agent does."""
        self.keeper.keep(manifest)
        self.keeper.tell()

    def told(self) -> list[EventKind]:
        return [event.kind for event in self.state.pending(100)]


@pytest.mark.parametrize(
    ("behind", "is_believed"), [(-3600, True), (0, True), (4.9, True), (5.1, False), (3600, False)]
)
def test_a_clock_before_the_newest_manifest_is_not_believed(behind: float, is_believed: bool) -> None:
    host = Host()
    host.keep(manifest(NOON + behind))
    assert host.shield.believes is is_believed
    assert bool(host.keeper.problems) is not is_believed
    assert host.told() == ([] if is_believed else [EventKind.CLOCK_DOUBTED])


def test_a_clock_behind_the_controllers_is_not_believed_and_comes_back(host: Host) -> None:
    host.keeper.hear(NOON + 60)
    for _ in range(3):
        host.keep(None)
        assert not host.shield.believes
    assert "60 seconds behind the controller" in host.keeper.problems[0]
    host.wall += 60
    host.keep(None)
    assert host.shield.believes
    assert host.keeper.problems == ()
    assert host.told() == [EventKind.CLOCK_DOUBTED, EventKind.CLOCK_BELIEVED]


def test_a_clock_stepped_back_later_is_noticed_without_a_word_from_anybody(host: Host) -> None:
    host.keep(manifest(NOON))
    host.pass_time(7200)
    host.keep(manifest(NOON))
    assert host.shield.believes
    host.wall -= 3600
    host.keep(manifest(NOON))
    assert not host.shield.believes, "still after the manifest, but two hours have not become one"


def test_a_controller_that_was_wrong_is_forgiven(host: Host) -> None:
    host.keeper.hear(NOON + 9999)
    host.keep(manifest(NOON + 9999))
    assert not host.shield.believes
    host.keeper.hear(NOON)
    host.keep(manifest(NOON, 2))
    assert host.shield.believes


def test_nobody_said_anything(host: Host) -> None:
    host.keep(None)
    assert host.shield.believes
    assert host.told() == []


def test_a_full_disk_keeps_no_doubt_from_the_programs_and_is_told_later(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(event: Event) -> Event:
        raise StateFailed("database or disk is full")

    host.keeper.hear(NOON + 60)
    with monkeypatch.context() as disk:
        disk.setattr(host.state, "record", full)
        host.keeper.keep(None)
        assert not host.shield.believes
        with pytest.raises(StateFailed):
            host.keeper.tell()
    host.keep(None)
    host.keep(None)
    assert host.told() == [EventKind.CLOCK_DOUBTED]


@pytest.fixture
def host() -> Host:
    return Host()
