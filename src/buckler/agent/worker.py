"""One thread that does everything that changes the kernel, one thing at a time. Knows nothing of what it does."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

_T = TypeVar("_T")
_log = structlog.get_logger()
_URGENT, _ORDINARY = 0, 1
_IDLE_SHARE = 5


class Worker:
    """Urgent jobs (a hook waits) go first; asking for a pass many times gives one pass.

    ``tidy`` is also done unasked every ``pass_seconds`` (not every change is announced: a deleted nft table, a link
    of tcx that is gone), less often where a pass takes long; ``sweep`` every ``sweep_seconds``.
    """

    def __init__(
        self, tidy: Callable[[], None], sweep: Callable[[], None], pass_seconds: float, sweep_seconds: float
    ) -> None:
        self._tidy = tidy
        self._sweep = sweep
        self._pass_seconds = pass_seconds
        self._sweep_seconds = sweep_seconds
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._is_untidy = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._jobs.put((_URGENT, next(self._count), lambda: None))
        self._thread.join(10)

    def post(self, job: Callable[[], None]) -> None:
        """Do it in turn."""
        self._jobs.put((_ORDINARY, next(self._count), job))

    def ask(self, question: Callable[[], _T], seconds: float) -> _T:
        """Do it next and wait for the answer. Raises TimeoutError, or what the question raised."""
        future: Future[_T] = Future()

        def answer() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(question())
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put((_URGENT, next(self._count), answer))
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def want_pass(self) -> None:
        """Tidy soon; once is enough for all who asked before it began."""
        if not self._is_untidy.is_set():
            self._is_untidy.set()
            self.post(self._pass)

    def _pass(self) -> None:
        if self._is_untidy.is_set():
            self._is_untidy.clear()
            self._tidy()

    def _run(self) -> None:
        next_pass, next_sweep = time.monotonic() + self._pass_seconds, time.monotonic() + self._sweep_seconds
        while not self._is_over.is_set():
            try:
                _, _, job = self._jobs.get(timeout=max(min(next_pass, next_sweep) - time.monotonic(), 0.001))
            except queue.Empty:
                job = self._tidy if time.monotonic() < next_sweep else self._sweep
            began = time.monotonic()
            self._do(job)
            ended = time.monotonic()
            if job == self._sweep:
                next_sweep = ended + self._sweep_seconds
            if job in (self._tidy, self._sweep, self._pass):
                next_pass = ended + max(self._pass_seconds, (ended - began) * _IDLE_SHARE)

    def _do(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:
            _log.exception("a job of the worker failed")
