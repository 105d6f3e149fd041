"""The newest acknowledgement to a controller, at once and by a thread of its own. Sends nothing else: a whole pool waits for it."""

from __future__ import annotations

import threading

import structlog

from buckler.agent.outbox import Outbox
from buckler.client.agentside import ControllerAway, ControllerClient, ControllerRefused

_log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 5.0


class Acknowledger:
    """What no controller took is sent again; of several that wait, the newest says all."""

    def __init__(self, clients: tuple[ControllerClient, ...], outbox: Outbox) -> None:
        self._clients = clients
        self._outbox = outbox
        self._sent: object = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acknowledger", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._outbox.wake_acknowledger()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._is_over.is_set():
            self._outbox.wait_acknowledgement(_LOOK_SECONDS)
            newest = self._outbox.acknowledgement()
            if newest is None or newest is self._sent:
                continue
            if any(self._is_taken(client) for client in self._clients):
                self._sent = newest
            else:
                self._is_over.wait(_RETRY_SECONDS)
                self._outbox.wake_acknowledger()

    def _is_taken(self, client: ControllerClient) -> bool:
        newest = self._outbox.acknowledgement()
        try:
            if newest is not None:
                client.acknowledge(newest)
        except (ControllerAway, ControllerRefused):
            return False  # the uplink tells of a controller that is away
        except Exception:
            _log.exception("acknowledging failed")
            return False
        return True
