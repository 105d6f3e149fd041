"""Every lifecycle event of libvirt is one entry, at the time that it was, and is told once."""

from __future__ import annotations

import pytest

from buckler.agent.chronicle import MOVES, Chronicle
from buckler.agent.desired import Desired
from buckler.agent.engine import Outcome
from buckler.agent.recorder import Recorder
from buckler.agent.residents import Residents
from buckler.drivers.inmemory.state import InMemoryState
from buckler.drivers.libvirt.words import lifecycle_words
from buckler.model.binding import policy_of
from buckler.model.bundle import Manifest, Stage
from buckler.model.event import Event, EventKind
from buckler.model.ids import Digest, HostId, Revision
from buckler.ports.hypervisor import DomainEvent
from tests.poolkit import Pool

UUID = Pool.uuid(1)
LIFECYCLE = {number: lifecycle_words(number, 0)[0] for number in range(9)}


class Nobody:
    """Names of a pool that knows no VM."""

    @staticmethod
    def vm_of(uuid: str) -> tuple[str, str]:
        return "", ""


def told(*events: tuple[str, str]) -> list[Event]:
    state = InMemoryState()
    chronicle = Chronicle(Recorder(state, HostId("h1"), lambda: None))
    for at, (what, detail) in enumerate(events, 100):
        event = DomainEvent(UUID, "web", what, detail, float(at))
        kind = chronicle.tell_lifecycle(event, Nobody())  # type: ignore[arg-type]
        if kind in MOVES:
            chronicle.tell_move(kind, event, Nobody(), {})  # type: ignore[arg-type]
    return list(state.pending(1000))


@pytest.mark.parametrize("what", [*LIFECYCLE.values(), "reboot"])
def test_every_lifecycle_event_of_libvirt_is_one_entry(what: str):
    (event,) = told((what, "why"))
    assert event.kind.value.startswith("domain.")
    assert (event.cause, event.at, event.detail["name"], event.detail["uuid"]) == ("why", 100.0, "web", UUID)


def test_libvirts_numbers_are_all_known():
    assert not any(word.startswith("event-") for word in LIFECYCLE.values())


def test_a_saved_vm_that_is_restored_tells_both_with_their_causes():
    events = told(("stopped", "saved"), ("started", "restored"))
    assert [(event.kind, event.cause) for event in events] == [
        (EventKind.DOMAIN_STOPPED, "saved"),
        (EventKind.DOMAIN_STARTED, "restored"),
    ]


def test_a_paused_vm_arrives_too():
    assert [
        event.kind for event in told(("started", "migrated"), ("suspended", "paused"), ("resumed", "unpaused"))
    ] == [
        EventKind.MIGRATION_ARRIVED,
        EventKind.DOMAIN_RESUMED,
    ]


def test_a_migration_is_one_arrival_here_and_one_leaving_there():
    assert [event.kind for event in told(("started", "migrated"), ("resumed", "migrated"))] == [
        EventKind.MIGRATION_ARRIVED
    ]
    assert [event.kind for event in told(("stopped", "migrated"))] == [EventKind.MIGRATION_LEFT]


def manifest(revision: int, root: str) -> Manifest:
    return Manifest("p", HostId("h1"), "hv1", Revision(revision), Stage.FLIP, 1.0, Digest(root), Digest("m"))


def test_policy_that_was_lent_and_the_hosts_own_of_the_same_revision_are_two_entries():
    """One revision is published to hosts in different stages: what binds is told by its digest."""
    state = InMemoryState()
    chronicle = Chronicle(Recorder(state, HostId("h1"), lambda: None))
    lent, own, renamed = manifest(7, "closed"), manifest(7, "flipped"), manifest(8, "flipped")
    for each in (lent, lent, own, own, manifest(7, "flipped"), renamed):
        outcome = Outcome(Desired(), each.revision, frozenset())
        chronicle.tell_outcome(outcome, Residents(), Nobody(), each)  # type: ignore[arg-type]
    told_of = [(event.detail["revision"], event.detail["policy"]) for event in state.pending(10)]
    assert told_of == [(7, policy_of(lent)), (7, policy_of(own)), (8, policy_of(renamed))]
