"""Things that the controller asks this host to do once. Owns no decision: the destination's gate has the last word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from buckler.agent.belief import Belief, read_task
from buckler.agent.names import names_of
from buckler.model.agentapi import Task, TaskKind, TaskReport, TaskState
from buckler.model.ids import VmId
from buckler.ports.hypervisor import Hypervisor, HypervisorFailed
from buckler.ports.state import State

_log = structlog.get_logger()


class Tasks:
    """Each task in a thread of its own, at most once, however often it is sent."""

    def __init__(self, hypervisor: Hypervisor, state: State, report: Callable[[TaskReport], None]) -> None:
        self._hypervisor = hypervisor
        self._state = state
        self._report = report
        self._moving: dict[VmId, Task] = {}

    def take(self, statement: str, belief: Belief) -> None:
        """Begin a task whose statement verifies. Raises Untrusted, StateFailed."""
        task = read_task(statement, belief)
        if self._state.is_done(task.id):
            return
        self._state.mark_done(task.id)
        threading.Thread(target=self._do, args=(task, belief), name="task", daemon=True).start()

    def order(self, vm: VmId) -> tuple[str, str]:
        """(task, who ordered it) of a VM that is being moved for the controller; empty for any other."""
        task = self._moving.get(vm)
        return ("", "") if task is None else (task.id, task.actor)

    def _do(self, task: Task, belief: Belief) -> None:
        if time.time() > task.expires_at:
            self._report(TaskReport(task.id, TaskState.FAILED, "it came too late"))
            return
        uuid = next((uuid for uuid, endpoint in names_of(belief).by_uuid.items() if endpoint.vm == task.vm), "")
        if task.kind is not TaskKind.MIGRATE or not uuid:
            self._report(TaskReport(task.id, TaskState.FAILED, "this host does not know that VM"))
            return
        self._report(TaskReport(task.id, TaskState.RUNNING))
        began = time.monotonic()
        self._moving[task.vm] = task
        try:
            self._hypervisor.migrate(uuid, task.destination_uri)
        except HypervisorFailed as error:
            self._report(TaskReport(task.id, TaskState.FAILED, str(error)))
            return
        finally:
            self._moving.pop(task.vm, None)
        seconds = round(time.monotonic() - began, 3)
        self._report(TaskReport(task.id, TaskState.DONE, detail={"seconds": seconds}))
