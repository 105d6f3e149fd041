"""What must be done to domains and takes libvirt's time: passports written, cards unplugged. Never in the worker's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog

from buckler.agent.belief import Belief
from buckler.agent.engine import Outcome
from buckler.agent.recorder import Recorder
from buckler.agent.residents import Residents
from buckler.gate.decision import InterfacePlan, Standing
from buckler.model.domain import DomainFacts
from buckler.model.event import EventKind
from buckler.model.ids import VmId
from buckler.ports.hypervisor import DomainEvent, Hypervisor, HypervisorFailed

_log = structlog.get_logger()


class Chores:
    """Each chore once at a time; one that failed is done again when libvirt is next asked."""

    def __init__(self, hypervisor: Hypervisor, recorder: Recorder, again: Callable[[], None]) -> None:
        self._hypervisor = hypervisor
        self._recorder = recorder
        self._again = again
        self._pool = ThreadPoolExecutor(4, "chore")
        self._lock = threading.Lock()
        self._underway: set[tuple[str, ...]] = set()
        self._known_cards: dict[str, frozenset[str]] = {}
        self._plugged_at: dict[str, tuple[float, float]] = {}  # by uuid: when it was, monotonic and wall clock
        self._cut: set[tuple[str, str]] = set()

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def expect_card(self, event: DomainEvent) -> None:
        """Libvirt said that a device was added to a running domain: its exposure counts from then."""
        self._plugged_at.setdefault(event.uuid, (time.monotonic() - (time.time() - event.at), event.at))

    def look_after(
        self, belief: Belief, residents: Residents, outcome: Outcome, residences: Mapping[VmId, str]
    ) -> None:
        """Begin whatever the newest state of things asks for."""
        self._write_passports(belief, residents)
        self._write_residences(residents, outcome, residences)
        running = {one.facts.uuid: one.facts for one in residents.all()}
        for uuid, facts in running.items():
            self._unplug_strangers(facts, outcome)
            self._known_cards[uuid] = frozenset(card.mac for card in facts.interfaces)
        for uuid in self._known_cards.keys() - running.keys():
            del self._known_cards[uuid]
        present = {(uuid, card.mac) for uuid, facts in running.items() for card in facts.interfaces}
        self._cut &= present
        self._forget_plugs(residents.snapshot.began)

    def _forget_plugs(self, listed: float) -> None:
        """What was plugged in before libvirt was asked, and is not being unplugged, may stay: no exposure counts from it."""
        with self._lock:
            busy = {key[1] for key in self._underway if key[0] == "unplug"}
        for uuid, (at, _) in list(self._plugged_at.items()):
            if at < listed and uuid not in busy:
                self._plugged_at.pop(uuid, None)

    def _write_passports(self, belief: Belief, residents: Residents) -> None:
        if belief.manifest is None:
            return
        uuids = {
            str(endpoint.vm): endpoint.uuid.lower() for segment in belief.segments for endpoint in segment.endpoints
        }
        here = {domain.uuid.lower() for domain in residents.snapshot.domains}
        for vm, passport in belief.manifest.adoptions.items():
            uuid = uuids.get(vm)
            if uuid is not None and uuid in here and not residents.has_passport(uuid, passport):
                self._do(("passport", uuid), partial(self._adopt, uuid, passport))

    def _write_residences(self, residents: Residents, outcome: Outcome, residences: Mapping[VmId, str]) -> None:
        """Only where the VM runs now: at the ends of a migration libvirt holds its domain."""
        for uuid in residents.running():
            decision, facts = outcome.desired.standing.get(uuid), residents.facts_of(uuid)
            if decision is None or facts is None or decision.standing is not Standing.REGISTERED:
                continue
            statement = residences.get(decision.vm, "")
            if statement and facts.residence != statement:
                self._do(("residence", uuid), partial(self._hypervisor.write_residence, uuid, statement))

    def _adopt(self, uuid: str, passport: str) -> None:
        self._hypervisor.write_passport(uuid, passport)
        self._again()

    def _unplug_strangers(self, facts: DomainFacts, outcome: Outcome) -> None:
        decision = outcome.desired.standing.get(facts.uuid)
        if decision is None:
            return
        known = self._known_cards.get(facts.uuid)
        for plan in decision.interfaces:
            is_plugged = known is not None and plan.mac not in known
            is_stranger = is_plugged and plan.endpoint is None and decision.standing is Standing.REGISTERED
            if (is_stranger or not plan.is_covered) and (facts.uuid, plan.mac) not in self._cut:
                self._do(("unplug", facts.uuid, plan.mac), partial(self._unplug, facts, plan, decision.vm))

    def _unplug(self, facts: DomainFacts, plan: InterfacePlan, vm: str) -> None:
        self._hypervisor.detach_interface(facts.uuid, plan.mac)
        _, plugged = self._plugged_at.pop(facts.uuid, (0.0, 0.0))
        self._cut.add((facts.uuid, plan.mac))
        self._recorder.record(
            EventKind.INTERFACE_DETACHED,
            vm=vm,
            cause=plan.reason,
            uuid=facts.uuid,
            name=facts.name,
            mac=plan.mac,
            was_guarded=plan.is_covered,
            exposure_seconds=round(time.time() - plugged, 3) if plugged else None,
        )
        self._again()

    def _do(self, key: tuple[str, ...], chore: Callable[[], None]) -> None:
        with self._lock:
            if key in self._underway:
                return
            self._underway.add(key)

        def run() -> None:
            try:
                chore()
            except HypervisorFailed as error:
                _log.warning("a chore failed", chore=key, error=str(error))
            except Exception:
                _log.exception("a chore failed", chore=key)
            finally:
                with self._lock:
                    self._underway.discard(key)

        self._pool.submit(run)
