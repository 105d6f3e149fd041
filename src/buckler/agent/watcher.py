"""Keeps asking libvirt, in a thread of its own: events as they come, the list whenever something may have changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from buckler.agent.residents import Snapshot
from buckler.ports.hypervisor import DomainEvent, Hypervisor, HypervisorFailed

_log = structlog.get_logger()
_RETRY_SECONDS = 0.5
_ASK_SECONDS = 15.0
_STANDS_STILL = ("suspended", "migrated")
"""A guest that moves waits for nothing of ours meanwhile: what follows, its going on or its end, is asked about."""


class Heard(msgspec.Struct, frozen=True):
    """Where the watcher brings what it hears."""

    event: Callable[[DomainEvent], None]
    snapshot: Callable[[Snapshot], None]
    lost: Callable[[], None]
    found: Callable[[Snapshot], None]


class Watcher:
    """``poke`` makes it ask anew. While libvirt is away it keeps trying."""

    def __init__(self, hypervisor: Hypervisor, heard: Heard) -> None:
        self._hypervisor = hypervisor
        self._heard = heard
        self._poked = threading.Event()
        self._is_lost = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._poked.set()
        self._thread.join(5)

    def poke(self) -> None:
        self._poked.set()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._follow()
            except HypervisorFailed as error:
                _log.warning("libvirt is away", error=str(error))
            if not self._is_over.wait(_RETRY_SECONDS):
                self._heard.lost()

    def _follow(self) -> None:
        """One connection, from the first answer until it breaks."""
        self._is_lost.clear()
        stop = self._hypervisor.watch(self._happened, self._lose)
        try:
            self._heard.found(self._ask())
            while not self._is_over.is_set() and not self._is_lost.is_set():
                if self._poked.wait(_ASK_SECONDS):
                    self._poked.clear()
                if not self._is_over.is_set() and not self._is_lost.is_set():
                    self._heard.snapshot(self._ask())
        finally:
            stop()

    def _ask(self) -> Snapshot:
        began = time.monotonic()
        return Snapshot(began, tuple(self._hypervisor.domains()))

    def _happened(self, event: DomainEvent) -> None:
        self._heard.event(event)
        if (event.what, event.detail) != _STANDS_STILL:
            self._poked.set()

    def _lose(self) -> None:
        self._is_lost.set()
        self._poked.set()
