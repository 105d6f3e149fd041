"""What taking documents in knows of the pool, so that a small change neither reads nor checks all of it. Never the truth.

Look before the transaction writes: what is kept is what was committed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from buckler.controller.mirror import Mirror
from buckler.controller.pool_state import State
from buckler.model.pool import Host
from buckler.policy.crosscheck import check_documents, check_hosts
from buckler.policy.language import Document
from buckler.policy.problem import Problem
from buckler.policy.vmcheck import CheckedVms
from buckler.ports.store import Unit


class Known:
    """Threadsafe."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._mirror = Mirror()
        self._checked = CheckedVms()

    def look(self, unit: Unit) -> State:
        """Give the pool as it is in this transaction."""
        with self._turn:
            try:
                return self._mirror.look(unit)
            except BaseException:
                self._mirror = Mirror()
                raise

    def check(self, documents: Sequence[Document], applied: Sequence[Document]) -> tuple[Problem, ...]:
        """Do what ``check_documents`` does."""
        with self._turn:
            return check_documents(documents, applied, self._checked)

    def check_hosts(self, documents: Sequence[Document], hosts: Sequence[Host]) -> tuple[Problem, ...]:
        """Do what ``check_hosts`` does."""
        with self._turn:
            return check_hosts(documents, hosts, self._checked)
