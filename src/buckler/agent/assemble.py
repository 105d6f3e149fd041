"""Puts an agent together from its drivers, and starts and stops its threads in order. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.acknowledging import Acknowledger
from buckler.agent.apply import Kernel
from buckler.agent.belief import Belief
from buckler.agent.believing import Believer
from buckler.agent.chores import Chores
from buckler.agent.chronicle import Chronicle
from buckler.agent.claiming import Claiming
from buckler.agent.claims import PendingClaims
from buckler.agent.counting import Counting
from buckler.agent.doorman import Answer, Doorman, Request
from buckler.agent.engine import Engine
from buckler.agent.handover.counters import CountersSection
from buckler.agent.handover.furnish import make_desk
from buckler.agent.handover.performance import PerformanceSection
from buckler.agent.handover.section import Section
from buckler.agent.lastlook import CountedShield
from buckler.agent.lookups import PendingNames
from buckler.agent.memory import Memory
from buckler.agent.outbox import Outbox
from buckler.agent.recorder import Recorder
from buckler.agent.report import acknowledgement_of, observation_of
from buckler.agent.residents import Residents, Snapshot
from buckler.agent.residing import Residing
from buckler.agent.sampling import Sampling
from buckler.agent.sensing import Sensing
from buckler.agent.sentry import Sentry
from buckler.agent.settings import AgentSettings
from buckler.agent.steward import Parts, Steward
from buckler.agent.tasks import Tasks
from buckler.agent.timekeeping import Timekeeper
from buckler.agent.uplink import Downlink, Uplink
from buckler.agent.watcher import Heard, Watcher
from buckler.agent.witness import witness_of
from buckler.agent.witnessing import Witnessing
from buckler.agent.worker import Worker
from buckler.client.agentside import ControllerClient
from buckler.gate.decision import Standing
from buckler.model.event import EventKind
from buckler.model.ids import VmId
from buckler.model.shield import GuardState
from buckler.ports.claims import Claims
from buckler.ports.connections import Connections
from buckler.ports.hypervisor import DomainEvent, Hypervisor
from buckler.ports.performance import Performance
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import Membership, State
from buckler.ports.telemetry import Telemetry

_log = structlog.get_logger()
_ANSWER_SECONDS = 0.2
_TURNS = frozenset({"suspended", "shutdown", "resumed"})
"""Events at which a domain's figures begin or are about to end."""


class NotJoined(Exception):
    """The host belongs to no pool yet."""


class Drivers(msgspec.Struct, frozen=True):
    """The world, as doors. ``reasons`` names the kernel's reason numbers."""

    state: State
    hypervisor: Hypervisor
    performance: Performance
    kernel: Kernel
    telemetry: Telemetry
    claims: Claims
    connections: Connections
    reasons: Mapping[int, str] = {}


class Agent:
    """All parts of one host's agent."""

    def __init__(
        self, settings: AgentSettings, drivers: Drivers, on_step: Callable[[str], None] = lambda _name: None
    ) -> None:
        membership = drivers.state.membership()
        if membership is None:
            raise NotJoined("this host has not joined a pool: buckler agent join TOKEN")
        self._settings, self._drivers, self._on_step = settings, drivers, on_step
        self._outbox = Outbox()
        self._recorder = Recorder(drivers.state, membership.host, self._outbox.wake)
        self._timekeeper = Timekeeper(drivers.kernel.upkeep, self._recorder)
        self._believer = Believer(drivers.state, membership, self._believed)
        self._worker = Worker(
            lambda: self._steward.tidy(), lambda: self._steward.sweep(), settings.pass_seconds, settings.sweep_seconds
        )
        self._newest = Snapshot(0.0, ())
        self._watcher = Watcher(drivers.hypervisor, self._heard())
        self._chores = Chores(drivers.hypervisor, self._recorder, self._watcher.poke)
        self._residing = Residing(drivers.state, membership.host)
        self._tasks = Tasks(drivers.hypervisor, drivers.state, self._outbox.put_report)
        self._counting = Counting(
            drivers.telemetry,
            drivers.state,
            lambda: self._steward.names,
            self._resident_numbers,
            self._outbox,
            self._worker.post,
        )
        self._sampling = Sampling(
            drivers.performance,
            drivers.telemetry,
            drivers.state,
            lambda: self._steward.names,
            self._registered,
            self._outbox.wake,
            settings.sample_seconds,
            settings.samples_kept,
        )
        self._desk = make_desk(
            settings,
            drivers.state,
            drivers.hypervisor,
            drivers.connections,
            self._believer,
            self._residing,
            self._tasks,
            lambda: self._steward,
            self._sections(),
        )
        self._steward = self._make_steward(self._believer.belief)
        self._doorman = Doorman(Path(settings.socket), self._answer)
        self._sensing = Sensing(
            drivers.telemetry,
            lambda: self._steward.names,
            drivers.reasons,
            membership.host_name or membership.host,
            self._outbox.put_flows,
        )
        pending, pending_names = PendingClaims(), PendingNames()
        self._claiming = Claiming(
            drivers.claims,
            lambda: self._steward.names,
            lambda: self._steward.outcome.desired.taps,
            pending,
            pending_names,
            self._outbox.wake,
        )
        self._clients = self._make_clients(membership)
        self._uplink = Uplink(self._clients, drivers.state, self._outbox, pending, pending_names)
        self._acknowledger = Acknowledger(self._clients, self._outbox)
        self._witnessing = Witnessing(witness_of(drivers.state, membership), self._recorder)
        self._downlink = Downlink(self._clients, self._believer, self._tasks.take, self._witnessing.offer)
        self._sentry = Sentry(drivers.kernel.upkeep, self._worker.want_pass)
        self._stop_watching: list[Callable[[], None]] = []
        self._started_at = time.time()

    @property
    def steward(self) -> Steward:
        return self._steward

    def start(self) -> None:
        """The guard first, then the shields that an earlier agent left, then whoever asks. Raises GuardFailed, ShieldFailed."""
        self._on_step("start")
        self._close_unguarded()
        self._drivers.kernel.shield.open()
        self._sampling.settle(self._drivers.kernel.upkeep.held(), self._drivers.kernel.shield.taps())
        self._on_step("opened")
        self._recorder.record(EventKind.AGENT_STARTED, revision=self._steward.belief.revision)
        self._steward.tidy()
        self._worker.start()
        self._stop_watching += [
            self._drivers.kernel.links.watch(self._worker.want_pass),
            self._drivers.kernel.guard.watch(self._worker.want_pass),
        ]
        self._doorman.start()
        self._desk.start()
        self._watcher.start()
        self._witnessing.start()
        self._downlink.start()
        self._acknowledger.start()
        self._uplink.start()
        self._sensing.start()
        self._claiming.start()
        self._sentry.start()
        self._counting.start()
        self._sampling.start()
        self._on_step("started")

    def stop(self) -> None:
        """Leave the kernel as it is: shields go on without an agent."""
        self._doorman.stop()
        self._desk.stop()
        for stop in self._stop_watching:
            stop()
        self._watcher.stop()
        self._sentry.stop()
        self._counting.stop()
        self._sampling.stop()
        self._sensing.stop()
        self._claiming.stop()
        self._chores.stop()
        self._downlink.stop()
        self._witnessing.stop()
        self._worker.stop()
        self._recorder.record(EventKind.AGENT_STOPPED)
        self._acknowledger.stop()
        self._uplink.stop()
        self._counting.close()
        for client in self._clients:
            client.close()

    def _close_unguarded(self) -> None:
        guard = self._drivers.kernel.guard
        if guard.observe() is None:
            bridges = self._settings.roles.bridges | {segment.bridge for segment in self._steward.belief.segments}
            guard.apply(GuardState(bridges=frozenset(bridges), ports=frozenset(), fabric=self._settings.fabric))

    def _make_steward(self, belief: Belief) -> Steward:
        residents = Residents()
        kernel = self._drivers.kernel
        shield = CountedShield(
            kernel.shield, lambda tap: self._sampling.expect(tap), lambda ifindex: self._sampling.close(ifindex)
        )
        kernel = msgspec.structs.replace(kernel, shield=shield)
        return Steward(
            Parts(
                engine=Engine(kernel, self._settings.roles, residents, self._on_step),
                residents=residents,
                chronicle=Chronicle(self._recorder),
                residing=self._residing,
                memory=Memory(self._drivers.state, self._recorder),
                timekeeper=self._timekeeper,
                chores=self._chores,
                desk=self._desk,
                later=self._worker.post,
                on_step=self._on_step,
                changed=self._publish,
            ),
            belief,
        )

    def _sections(self) -> tuple[Section, ...]:
        """What moves with a VM beside its connections: one for each room that has something to hand over."""
        return (CountersSection(self._counting), PerformanceSection(self._sampling))

    def _make_clients(self, membership: Membership) -> tuple[ControllerClient, ...]:
        key = Ed25519PrivateKey.from_private_bytes(self._drivers.state.host_key())
        urls = self._settings.controllers or membership.controllers
        heard = self._timekeeper.hear
        return tuple(ControllerClient(url, membership.host, key, membership.ca_certificate, heard) for url in urls)

    def _heard(self) -> Heard:
        def post(job: Callable[[Steward], None]) -> None:
            self._worker.post(lambda: job(self._steward))

        def take(event: DomainEvent) -> None:
            self._desk.note(event)
            endpoint = self._steward.names.by_uuid.get(event.uuid.lower())
            if endpoint is not None and event.what in _TURNS:
                self._sampling.hurry(endpoint.vm)
            post(lambda steward: steward.take_event(event))

        def take_snapshot(snapshot: Snapshot) -> None:
            self._newest = snapshot  # in turn with events; one behind which a newer one waits already says nothing
            post(lambda steward: steward.take_snapshot(snapshot) if self._newest is snapshot else None)

        return Heard(
            event=take,
            snapshot=take_snapshot,
            lost=lambda: post(lambda steward: steward.lose_sight()),
            found=lambda snapshot: post(lambda steward: steward.take_sight(snapshot)),
        )

    def _believed(self, belief: Belief) -> None:
        self._worker.post(lambda: self._steward.take_belief(belief))

    def _registered(self) -> dict[str, VmId]:
        standing = self._steward.outcome.desired.standing
        return {uuid: each.vm for uuid, each in standing.items() if each.standing is Standing.REGISTERED}

    def _resident_numbers(self) -> frozenset[int] | None:
        """VMs that have taps here, or should; unknown while the kernel cannot be read back."""
        try:
            standing = self._drivers.kernel.shield.taps()
        except ShieldFailed:
            return None
        taps = (*standing.values(), *self._steward.outcome.desired.taps.values())
        return frozenset(int(tap.vm) for tap in taps)

    def _publish(self) -> None:
        outcome, now = self._steward.outcome, time.time()
        acknowledgement = acknowledgement_of(outcome, self._steward.belief, now)
        residents, residences, awaited = self._steward.residents, self._residing.statements, self._steward.awaited
        observation = observation_of(outcome, residents, now, acknowledgement.revision, residences, awaited)
        problems = (*observation.problems, *self._witnessing.problems, *self._timekeeper.problems)
        self._outbox.put_state(acknowledgement, msgspec.structs.replace(observation, problems=problems))

    def _answer(self, request: Request) -> Answer:
        if request.operation == "status":
            return Answer(allowed=True, detail=self._status())
        end = time.monotonic() + request.seconds - _ANSWER_SECONDS
        self._desk.before_hook(request)
        answer = self._decide(request, end - time.monotonic())
        self._desk.after_hook(request, answer, end - time.monotonic())
        return answer

    def _decide(self, request: Request, seconds: float) -> Answer:
        try:
            return self._worker.ask(lambda: self._steward.take_hook(request), max(seconds, 0.1))
        except TimeoutError:
            return Answer(allowed=False, reason="the agent is busy: the shield was not ready in time")
        except Exception as error:
            _log.exception("a hook was refused")
            return Answer(allowed=False, reason=f"the agent failed: {error}")

    def _totals(self) -> dict[str, Any]:
        """What the VMs here used and what their shields decided, over all hosts they were on, as far as told here."""
        found: dict[str, Any] = {}
        totals = self._sampling.totals()
        for endpoint in self._steward.names.by_number.values():
            if endpoint.vm not in totals:
                continue
            packets = {"allow": 0, "deny": 0}
            for counter in self._counting.known_totals(endpoint.vm):
                packets[counter.verdict] = packets.get(counter.verdict, 0) + counter.packets
            found[endpoint.vm] = {
                "name": endpoint.name,
                **msgspec.structs.asdict(totals[endpoint.vm]),
                "counted": packets,
            }
        return found

    def _status(self) -> dict[str, Any]:
        steward, outcome = self._steward, self._steward.outcome
        return {
            "pool": steward.belief.pool,
            "host": steward.belief.host,
            "wanted": steward.belief.revision,
            "enforced": outcome.enforced,
            "stage": "" if steward.belief.manifest is None else steward.belief.manifest.stage.value,
            "taps": sorted(outcome.desired.devices.get(index, str(index)) for index in outcome.admitted),
            "problems": [*outcome.problems, *self._witnessing.problems],
            "witness": self._witnessing.status(),
            "pass_seconds": round(outcome.seconds, 4),
            "vms": self._totals(),
            "events_waiting": len(self._drivers.state.pending(1000)),
            "running_since": self._started_at,
        }
