"""Wakes those who wait for news: streams, the engine, requests that wait. Carries no news itself."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung from any thread, heard in one event loop. A ring between looking and waiting is not lost."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self.count = 0

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop in which waiters live."""
        self._loop = loop

    def ring(self) -> None:
        """Wake everybody who waits."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def wait(self, seen: int, timeout: float) -> bool:
        """Wait until it was rung after ``count`` was ``seen``; False when ``timeout`` seconds pass before."""
        if self.count != seen:
            return True
        try:
            await asyncio.wait_for(self._rung.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self.count += 1
        self._rung.set()
        self._rung = asyncio.Event()
