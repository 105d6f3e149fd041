"""To the controllers and back, in two threads: statements come down, what happened goes up. Enforces nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import structlog

from buckler.agent.belief import Belief
from buckler.agent.believing import Believer
from buckler.agent.claims import PendingClaims
from buckler.agent.lookups import PendingNames
from buckler.agent.outbox import Outbox
from buckler.client.agentside import ControllerAway, ControllerClient, ControllerRefused
from buckler.model.agentapi import ClaimBatch, CounterReport, EventBatch, NameBatch, SampleBatch, StreamMessage
from buckler.ports.state import State, StateFailed
from buckler.trust.statement import KeySet, Untrusted

_log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_EVENTS_AT_ONCE = 500
_FLOWS_AT_ONCE = 2_000
_COUNTERS_AT_ONCE = 1_000
_CLAIMS_AT_ONCE = 500
_SAMPLES_AT_ONCE = 1_000
_RESEND_SECONDS = 5.0
_UNKNOWN = 404


class Downlink:
    """Follows the stream of one controller after the other. What does not verify is told and forgotten."""

    def __init__(
        self,
        clients: tuple[ControllerClient, ...],
        believer: Believer,
        task: Callable[[str, Belief], None],
        checkpoint: Callable[[ControllerClient, str, KeySet], None],
    ) -> None:
        self._clients = clients
        self._believer = believer
        self._task = task
        self._checkpoint = checkpoint
        self._complaint = ""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="downlink", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()

    def _run(self) -> None:
        while not self._is_over.is_set():
            for client in self._clients:
                self._follow(client)
                self._is_over.wait(_RETRY_SECONDS)

    def _follow(self, client: ControllerClient) -> None:
        try:
            for message in client.watch(self._believer.belief.own_revision, self._is_over.is_set):
                self._complaint = ""
                self._take(client, message)
        except (ControllerAway, ControllerRefused) as error:
            self._complain(str(error))
        except (Untrusted, StateFailed, msgspec.DecodeError) as error:
            _log.warning("a statement was refused", error=str(error))
        except Exception:
            _log.exception("the stream was left")

    def _complain(self, error: str) -> None:
        """Once for each reason: a controller can be away for days."""
        if error != self._complaint:
            _log.info("the controller's stream ended", error=error)
        self._complaint = error

    def _take(self, client: ControllerClient, message: StreamMessage) -> None:
        if message.issuers:
            self._believer.take_issuers(message.issuers)
        if message.manifest:
            self._believer.take_manifest(message.manifest, client.objects)
        if message.task:
            self._task(message.task, self._believer.belief)
        if message.checkpoint:
            self._checkpoint(client, message.checkpoint, self._believer.belief.keys)


class Uplink:
    """Sends what waits, oldest first; what was not taken waits on. Acknowledgements do not wait behind it (Acknowledger)."""

    def __init__(
        self,
        clients: tuple[ControllerClient, ...],
        state: State,
        outbox: Outbox,
        claims: PendingClaims,
        names: PendingNames,
    ) -> None:
        self._clients = clients
        self._state = state
        self._outbox = outbox
        self._claims = claims
        self._names = names
        self._sent: dict[int, object] = {}
        self._complaint = ""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._outbox.wake()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._outbox.wait(_RESEND_SECONDS)
            for number, client in enumerate(self._clients):
                try:
                    self._send(number, client)
                    self._complaint = ""
                    break
                except (ControllerAway, ControllerRefused) as error:
                    if str(error) != self._complaint:
                        _log.info("the controller takes nothing", error=str(error))
                    self._complaint = str(error)
                except Exception:
                    _log.exception("reporting failed")
            else:
                self._is_over.wait(_RETRY_SECONDS)
                self._outbox.wake()

    def _send(self, number: int, client: ControllerClient) -> None:
        """What the controller refuses of one kind keeps no other kind back."""
        refusals = []
        for send in (
            self._send_events,
            lambda client: self._send_observation(number, client),
            self._send_reports,
            self._send_counters,
            self._send_flows,
            self._send_claims,
            self._send_names,
            self._send_samples,
        ):
            try:
                send(client)
            except ControllerRefused as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def _send_observation(self, number: int, client: ControllerClient) -> None:
        observation = self._outbox.observation()
        if observation is not None and self._sent.get(number) is not observation:
            client.send_observation(observation)
            self._sent[number] = observation

    def _send_reports(self, client: ControllerClient) -> None:
        for report in self._outbox.reports():
            try:
                client.report_task(report)
            except ControllerRefused as error:
                if error.status != _UNKNOWN:
                    raise
                _log.warning("the controller knows no such task", task=report.id)
            self._outbox.report_sent(report)

    def _send_samples(self, client: ControllerClient) -> None:
        while samples := self._state.samples(_SAMPLES_AT_ONCE):
            through = client.send_samples(SampleBatch(tuple(samples))).through
            if through < samples[0].sequence:
                return
            self._state.forget_samples(through)

    def _send_counters(self, client: ControllerClient) -> None:
        while counters := self._outbox.counters(_COUNTERS_AT_ONCE):
            client.send_counters(CounterReport(counters))
            self._outbox.counters_sent(counters)

    def _send_events(self, client: ControllerClient) -> None:
        while events := self._state.pending(_EVENTS_AT_ONCE):
            try:
                through = client.send_events(EventBatch(tuple(events))).through
            except ControllerRefused as error:
                through = error.problem.get("through", -1) if error.status == 409 else -1
                if not isinstance(through, int) or through < events[0].sequence:
                    raise
            if through < events[0].sequence:
                return
            self._state.forget_through(through)

    def _send_claims(self, client: ControllerClient) -> None:
        """One batch each time: what has to wait comes again with the next."""
        claims, shed = self._claims.oldest(_CLAIMS_AT_ONCE)
        if claims or shed:
            self._claims.settle(claims, client.send_claims(ClaimBatch(claims, shed)).outcomes, shed)

    def _send_names(self, client: ControllerClient) -> None:
        claims, shed = self._names.oldest(_CLAIMS_AT_ONCE)
        if claims or shed:
            self._names.settle(claims, client.send_names(NameBatch(claims, shed)).outcomes, shed)

    def _send_flows(self, client: ControllerClient) -> None:
        while batch := self._outbox.flows(
            _FLOWS_AT_ONCE
        ):  # what was shed is told with the next, and in the counters at once
            client.send_flows(batch)
            self._outbox.flows_sent()
