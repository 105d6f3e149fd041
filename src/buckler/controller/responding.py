"""Follows what hosts tell of refusals and does what Responses decide. Owns the counting window, not the decision."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence

from buckler.controller.parts import Parts
from buckler.controller.pool_state import HOST, QUARANTINE, QUARANTINE_RULE, Registered, document_of, load_state
from buckler.controller.quarantine import Order, begin_quarantine
from buckler.model.event import Event, EventKind
from buckler.model.flow import FlowRecord
from buckler.model.ids import Revision, VmId
from buckler.model.operatorapi.vms import Allowance
from buckler.model.pool import Host
from buckler.policy.language import Document, Kind, ResponseSpec
from buckler.policy.response import Figures, Refusal, Suspect, Verdict, decide, figures_of, is_triggered, sentence_of
from buckler.policy.responses import MOST_WITHIN
from buckler.ports.store import Unit

_WINDOW = 4096
"""Refusals that are remembered of one VM: those that no trigger needs any more go first."""
_WINDOWS = 20_000
_PATIENCE = 1.0
_COUNTED = frozenset({"policy", "infra", "spoofed-mac", "spoofed-address", "spoofed-arp", "spoofed-nd"})
"""Only what a VM sent itself, and nothing that can be drawn from it: no answers, no errors, no frames to groups."""

Place = tuple[str, str]
"""A host's id and what it calls the VM."""


class Responder:
    """Counts in memory: a controller that starts anew counts from zero. A host is believed for its own VMs only."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._windows: OrderedDict[Place, deque[Refusal]] = OrderedDict()
        self._batches: dict[str, str] = {}
        self._responses: tuple[Revision, tuple[Document, ...]] | None = None
        self._told: dict[tuple[VmId, str], float] = {}
        self._looked: dict[Place, float] = {}

    def take(self, host: Host, flows: Sequence[FlowRecord], batch: str) -> None:
        """Take in what a host has told, in any of its VMs' names."""
        with self._lock:
            if batch and self._batches.get(host.id) == batch:
                return
            self._batches[host.id] = batch
            astir = self._remember(host, flows)
            if not astir:
                return
            with self._parts.store.read() as unit:
                responses = self._in_force(unit)
            loud = [place for place in astir if self._is_loud(responses, place, self._parts.clock())]
            if loud:
                self._act(host, responses, loud)

    def _remember(self, host: Host, flows: Iterable[FlowRecord]) -> list[Place]:
        astir: dict[Place, None] = {}
        for flow in flows:
            if flow.verdict != "deny" or flow.direction != "egress" or flow.peer == "group":
                continue
            if flow.reason not in _COUNTED:
                continue
            place = (host.id, flow.local)
            window = self._windows.setdefault(place, deque(maxlen=_WINDOW))
            self._windows.move_to_end(place)
            window.append(
                Refusal(flow.at, flow.destination, flow.protocol, flow.destination_port, max(flow.packets, 1))
            )
            while window and window[0].at < flow.at - MOST_WITHIN:
                window.popleft()
            astir[place] = None
        while len(self._windows) > _WINDOWS:
            self._windows.popitem(last=False)
        return [place for place in astir if place in self._windows]

    def _in_force(self, unit: Unit) -> tuple[Document, ...]:
        revision = unit.revisions.current()
        if self._responses is None or self._responses[0] != revision:
            found = [document_of(each) for each in unit.documents.all() if each.key.kind == Kind.RESPONSE.value]
            self._responses = revision, tuple(sorted(found, key=lambda each: each.key))
        return self._responses[1]

    def _is_loud(self, responses: Iterable[Document], place: Place, now: float) -> bool:
        """Say whether any trigger is pulled; one place is looked at once a second at most."""
        if now - self._looked.get(place, 0.0) < _PATIENCE:
            return False
        window = self._windows[place]
        if not any(
            is_triggered(each.spec.trigger, figures_of(window, each.spec.trigger.within))
            for each in responses
            if isinstance(each.spec, ResponseSpec)
        ):
            return False
        self._looked = {each: at for each, at in self._looked.items() if now - at < _PATIENCE} | {place: now}
        return True

    def _act(self, host: Host, responses: Iterable[Document], loud: Iterable[Place]) -> None:
        """Look before taking the store for writing: most of what is loud was told already."""
        with self._parts.store.read() as unit:
            residents = load_state(unit).registered
            called = [place for place in loud if self._calls(unit, residents, host, responses, place)]
        for place in called:
            with self._parts.store.write() as unit:
                for response in responses:
                    vm = _resident(load_state(unit).registered, host, place[1])
                    if vm is not None and isinstance(response.spec, ResponseSpec):
                        self._do(unit, vm, place, response.name, response.spec)
        if called:
            self._parts.work.ring()

    def _calls(
        self,
        unit: Unit,
        residents: Iterable[Registered],
        host: Host,
        responses: Iterable[Document],
        place: Place,
    ) -> bool:
        vm = _resident(residents, host, place[1])
        if vm is None:
            return False
        if QUARANTINE in vm.attributes:
            self._windows[place].clear()  # what it tried meanwhile does not count once it is released
            return False
        return any(
            self._judged(unit, vm, place, each.name, each.spec)[0] is not Verdict.NOTHING
            for each in responses
            if isinstance(each.spec, ResponseSpec)
        )

    def _judged(
        self, unit: Unit, vm: Registered, place: Place, name: str, spec: ResponseSpec
    ) -> tuple[Verdict, Figures]:
        """Decide, unless it was told within the trigger's time that nothing more is done."""
        now = self._parts.clock()
        released = _released_at(unit, vm)  # what it tried before that has been answered for
        figures = figures_of([each for each in self._windows[place] if each.at > released], spec.trigger.within)
        recent = _quarantined_since(unit, name, now - spec.limit.within)
        verdict = decide(spec, figures, Suspect(vm.vm.labels, QUARANTINE in vm.attributes, recent))
        is_told = now - self._told.get((vm.vm.id, name), 0.0) < spec.trigger.within
        return (Verdict.NOTHING if is_told and verdict is not Verdict.QUARANTINE else verdict), figures

    def _do(self, unit: Unit, vm: Registered, place: Place, name: str, spec: ResponseSpec) -> None:
        now, (verdict, figures) = self._parts.clock(), self._judged(unit, vm, place, name, spec)
        if verdict is Verdict.NOTHING:
            return
        self._told = {each: at for each, at in self._told.items() if now - at < MOST_WITHIN} | {(vm.vm.id, name): now}
        why = f"{sentence_of(figures, spec.trigger.within)}: {spec.description}"
        told = {"response": name, "outcome": verdict.value, "priority": spec.priority.value}
        detail = {**told, **_counted(spec, figures)}
        event = Event(EventKind.RESPONSE_TRIGGERED, now, vm=vm.vm.id, tenant=vm.vm.tenant, cause=why, detail=detail)
        self._parts.record(unit, event)
        if verdict is Verdict.QUARANTINE:
            order = Order("controller", why, Allowance(spec.allow.value), name, _counted(spec, figures))
            begin_quarantine(self._parts, unit, vm, order)


def _counted(spec: ResponseSpec, figures: Figures) -> dict[str, object]:
    return {
        "refusals": figures.refusals,
        "peers": figures.peers,
        "ports": figures.ports,
        "within": spec.trigger.within,
    }


def _resident(registered: Iterable[Registered], host: Host, name: str) -> Registered | None:
    """Find the VM that a host means: one that it has itself, and the only one of that name."""
    found = [each for each in registered if each.vm.name == name and each.attributes.get(HOST) == host.name]
    return found[0] if len(found) == 1 else None


def _released_at(unit: Unit, vm: Registered) -> float:
    """Say when a VM came out of its last quarantine; 0: it was in none."""
    return max((each.valid_to for each in unit.vms.attributes(vm.vm.id) if each.name == QUARANTINE), default=0.0)


def _quarantined_since(unit: Unit, name: str, since: float) -> int:
    """Count the VMs that a Response has quarantined, those that were released or deleted since too."""
    return sum(
        any(
            (each.name, each.value) == (QUARANTINE_RULE, name) and each.valid_from >= since
            for each in unit.vms.attributes(vm.id)
        )
        for vm in unit.vms.ever()
    )
