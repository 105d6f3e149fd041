"""Keeps child processes running until told to stop. Knows nothing of what they do."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

POLL = 0.5
SLOWEST = 30.0
STEADY = 60.0
PATIENCE = 15.0


class Child:
    """One process that is started again when it ends, ever more slowly while it ends soon."""

    def __init__(self, name: str, command: Sequence[str], say: Callable[[str], None]) -> None:
        self._name = name
        self._command = tuple(command)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = 1.0
        self._again_at = 0.0

    def start(self) -> None:
        """Start it now. Its own session, so that a terminal's interrupt reaches only us, who stop it in order."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._started = time.monotonic()
        self._again_at = 0.0

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None while it runs."""
        return self._process.poll() if self._process else None

    def watch(self) -> None:
        """Start it again when it ended and its pause is over."""
        code, now = self.exit_code, time.monotonic()
        if code is None:
            return
        if not self._again_at:
            self._pause = 1.0 if now - self._started > STEADY else min(self._pause * 2, SLOWEST)
            self._again_at = now + self._pause
            self._say(f"the {self._name} ended with {code}; started again in {self._pause:g} s")
        elif now >= self._again_at:
            self.start()

    def stop(self) -> None:
        """Ask it to end, and make it end after a while."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._say(f"the {self._name} does not end by itself: killed")
            self._process.kill()
            self._process.wait()


def supervise(children: Mapping[str, Child], say: Callable[[str], None]) -> None:
    """Watch until SIGTERM or SIGINT, then stop them, the last started first."""
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not stopping:
            for child in children.values():
                child.watch()
            time.sleep(POLL)
    finally:
        for name, child in reversed(tuple(children.items())):
            say(f"stopping the {name}")
            child.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
