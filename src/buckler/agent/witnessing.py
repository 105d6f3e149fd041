"""Takes each newer checkpoint of the ledger through the witness, in a thread of its own. Owns no judgement."""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

import structlog

from buckler.agent.recorder import Recorder
from buckler.agent.witness import Contradiction, Step, Witness, judge, prove
from buckler.client.agentside import ControllerAway, ControllerRefused
from buckler.ledger.checkpoint import Checkpoint
from buckler.ledger.export import BadFile, bytes_of
from buckler.model.agentapi import ConsistencyProof, Cosigned
from buckler.model.event import EventKind
from buckler.ports.state import StateFailed
from buckler.trust.statement import KeySet, Untrusted

_log = structlog.get_logger()
_NO_PROOF = frozenset({400, 404})


class Prover(Protocol):
    """What of a controller's client is needed here."""

    def consistency(self, old: int, new: int) -> ConsistencyProof: ...

    def send_cosigned(self, cosigned: Cosigned) -> None: ...


class Witnessing:
    """Only the newest offer counts."""

    def __init__(self, witness: Witness, recorder: Recorder) -> None:
        self._witness = witness
        self._recorder = recorder
        self._offer: tuple[Prover, str, KeySet] | None = None
        self._sent = ""
        self._has_news = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witnessing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._has_news.set()
        self._thread.join(5)

    def offer(self, client: Prover, note: str, keys: KeySet) -> None:
        """A controller says that this is the newest checkpoint; ``keys`` may sign for the pool now."""
        self._offer = client, note, keys
        self._has_news.set()

    @property
    def problems(self) -> tuple[str, ...]:
        """What people must hear."""
        refusal = self._witness.refusal
        return () if refusal is None else (f"the ledger contradicts what this host witnessed: {refusal.reason}",)

    def status(self) -> dict[str, Any]:
        """Tell what is held."""
        try:
            held = self._witness.held()
        except Contradiction as error:
            return {"size": 0, "refused": str(error)}
        refusal = self._witness.refusal
        return {"size": held.size if held else 0, "refused": refusal.reason if refusal else ""}

    def take(self, client: Prover, note: str, keys: KeySet) -> None:
        """Judge one offer, and tell the controller what this host holds. Raises ControllerAway, ControllerRefused."""
        try:
            offered = self._witness.read(note, keys)
        except Untrusted as error:
            _log.warning("a checkpoint was not believed", error=str(error))
            return
        try:
            self._follow(client, note, offered)
        except Contradiction as error:
            self._refuse(note, offered, str(error))
            return
        if self._witness.note != self._sent:
            held = self._witness.note
            client.send_cosigned(Cosigned(held))
            self._sent = held

    def _follow(self, client: Prover, note: str, offered: Checkpoint) -> None:
        held = self._witness.held()
        step = judge(held, offered)
        if step is Step.PROVE and held is not None:
            prove(held, offered, _proof(client, held.size, offered.size))
        if step is not Step.NOTHING:
            self._witness.keep(note, time.time())

    def _refuse(self, note: str, offered: Checkpoint, reason: str) -> None:
        if self._witness.refuse(note, reason, time.time()):
            _log.error("the ledger contradicts what this host witnessed", reason=reason)
            self._recorder.record(
                EventKind.WITNESS_REFUSED, cause=reason, size=offered.size, held=self._witness.note, offered=note
            )

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._has_news.wait()
            self._has_news.clear()
            offer, self._offer = self._offer, None
            if offer is None or self._is_over.is_set():
                continue
            try:
                self.take(*offer)
            except (ControllerAway, ControllerRefused, StateFailed) as error:
                _log.info("a checkpoint could not be witnessed", error=str(error))
            except Exception:
                _log.exception("a checkpoint could not be witnessed")


def _proof(client: Prover, old: int, new: int) -> list[bytes]:
    try:
        return [bytes_of(each) for each in client.consistency(old, new).path]
    except BadFile as error:
        raise Contradiction(f"from {old} to {new} entries: the proof is {error}") from error
    except ControllerRefused as refused:
        if refused.status in _NO_PROOF:
            raise Contradiction(f"from {old} to {new} entries: the controller has no proof: {refused}") from refused
        raise
