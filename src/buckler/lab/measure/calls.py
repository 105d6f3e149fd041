"""Which hooks libvirt runs, and when, and what an agent asks libvirt meanwhile, as the kernel's own tracing sees it.

Tracepoints cost nothing that a move would feel; a debugger that stops every system call would. Judges no move.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec

from buckler.lab.datacentre import DataCentre
from buckler.lab.machine import LabFailed, processes_of
from buckler.lab.measure.timeline import Downtime

HOOK = "/etc/libvirt/hooks/qemu"
LIBVIRTD, AGENT = "libvirtd -d -l", " -m buckler agent run"
_MOUNT = "/run/lab/tracing"
_EXEC = re.compile(r"-(\d+) +\[\d+\] .*? (\d+\.\d+): sched_process_exec: filename=(\S+)")
_EXIT = re.compile(r"-(\d+) +\[\d+\] .*? (\d+\.\d+): sched_process_exit:")
_ASKED = re.compile(r"-(\d+) +\[\d+\] .*? (\d+\.\d+): sys_write\(")


class Call(msgspec.Struct, frozen=True):
    """``hook``: libvirt waits for it from ``began`` to ``ended``. ``question``: an agent asks libvirt, and nobody waits."""

    kind: str
    began: float
    ended: float

    def touches(self, downtime: Downtime) -> bool:
        """Say whether any of it lies between STOP and RESUME."""
        return self.began < downtime.resumed and self.ended > downtime.stopped


class Tracer:
    """Traces libvirtd and the agent of every host of one lab until closed. Raises LabFailed where the kernel has no tracing."""

    def __init__(self, centre: DataCentre) -> None:
        first = centre.plan.hosts[0].name
        centre.run_on(first, "mkdir", "-p", _MOUNT)
        centre.run_on(first, "mount", "-t", "tracefs", "tracefs", _MOUNT)
        instances = centre.root(first) / _MOUNT.lstrip("/") / "instances"
        daemons, agents = (_processes(centre, words) for words in (LIBVIRTD, AGENT))
        if len(daemons) != len(centre.plan.hosts) or len(agents) != len(centre.plan.hosts):
            raise LabFailed(f"every host has one libvirtd and one agent, but {daemons} and {agents} were found")
        asking = " || ".join(f"fd == {fd}" for pid in agents for fd in _client_sockets(pid))
        if not asking:
            raise LabFailed("no agent is connected to libvirt")
        self._offset = time.time() - time.monotonic()
        self._hooks = _Instance(instances / f"{centre.plan.prefix}-hooks", daemons)
        self._questions = _Instance(instances / f"{centre.plan.prefix}-agents", agents)
        self._hooks.enable("sched/sched_process_exec")
        self._hooks.enable("sched/sched_process_exit")
        self._questions.enable("syscalls/sys_enter_write", asking)

    def close(self) -> tuple[Call, ...]:
        """Trace no longer; return every call that was seen. Raises LabFailed when the trace shows no hook at all."""
        hooks, questions = self._hooks.close(), self._questions.close()
        calls = (*read_hooks(hooks, self._offset), *read_questions(questions, self._offset))
        if not any(call.kind == "hook" for call in calls):
            raise LabFailed("the trace shows no hook: what it says of downtimes proves nothing")
        return calls


class _Instance:
    """One buffer of the kernel's tracing, for some processes and all that they start."""

    def __init__(self, folder: Path, pids: list[int]) -> None:
        self._folder = folder
        if folder.exists():
            folder.rmdir()  # of a run that was killed: tracefs removes what is in it
        folder.mkdir()
        tasks = [task.name for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
        self._write("trace_clock", "mono")
        self._write("buffer_size_kb", "4096")
        self._write("options/event-fork", "1")
        self._write("set_event_pid", "\n".join(tasks))

    def enable(self, event: str, only: str = "") -> None:
        """Record an event from now on."""
        if only:
            self._write(f"events/{event}/filter", only)
        self._write(f"events/{event}/enable", "1")

    def close(self) -> str:
        """Return what was recorded, and forget it."""
        self._write("tracing_on", "0")
        text = (self._folder / "trace").read_text(errors="replace")
        self._folder.rmdir()
        return text

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(f"{text}\n")


def read_hooks(trace: str, offset: float) -> tuple[Call, ...]:
    """Read the runs of the hook; one whose end was not seen lasts for ever. Pure: ``offset`` makes times of day."""
    begun: dict[str, float] = {}
    calls: list[Call] = []
    for line in trace.splitlines():
        if (found := _EXEC.search(line)) and found[3] == HOOK:
            begun[found[1]] = float(found[2]) + offset
        elif (found := _EXIT.search(line)) and found[1] in begun:
            calls.append(Call("hook", begun.pop(found[1]), float(found[2]) + offset))
    return (*calls, *(Call("hook", at, float("inf")) for at in begun.values()))


def read_questions(trace: str, offset: float) -> tuple[Call, ...]:
    """Read when an agent wrote to libvirt. Pure."""
    times = [float(found[2]) + offset for found in map(_ASKED.search, trace.splitlines()) if found]
    return tuple(Call("question", at, at) for at in times)


def _processes(centre: DataCentre, words: str) -> list[int]:
    return [
        pid for host in centre.plan.hosts for pid, line in processes_of([host.namespace]).items() if words in f"{line} "
    ]


def _client_sockets(pid: int) -> list[int]:
    """Find the connected unix sockets of a process whose other end has the name: those of a client."""
    nameless = {
        fields[6]
        for fields in map(str.split, Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:])
        if len(fields) == 7 and fields[4] == "0001" and fields[5] == "03"
    }
    links = [(int(entry.name), str(entry.readlink())) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return [fd for fd, link in links if link.startswith("socket:[") and link[8:-1] in nameless]
