"""Starts controllers as processes of their own without importing everything anew: it imports once, then forks.

A child does exactly what ``python -m buckler`` does, has its own memory, log and environment, and dies by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import IO, Any, NoReturn


class Nursery:
    """The test's end of the pipe to the one process that forks."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def start(self, arguments: list[str], log: str, environment: dict[str, str]) -> int:
        """Start ``buckler`` with ``arguments``; return the pid."""
        return int(self._ask({"arguments": arguments, "log": log, "environment": environment}))

    def exit_code(self, pid: int) -> int | None:
        """Return what a child ended with (minus the signal that killed it), None while it runs."""
        code = self._ask({"pid": pid})
        return None if code is None else int(code)

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(20)

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Fork and bury until the other end closes."""
    from buckler.__main__ import main
    from buckler.controller.command import controller
    from buckler.drivers.store.database import open_database

    open_database("sqlite://").close()  # what is imported late is imported now
    assert controller.name in main.list_commands(None)  # type: ignore[arg-type]
    for line in questions:
        question = json.loads(line)
        answer = _exit_code(question["pid"]) if "pid" in question else os.fork() or _be_child(question)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _exit_code(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _be_child(question: dict[str, Any]) -> NoReturn:
    from buckler.__main__ import main

    code: object = 1
    try:
        log = os.open(question["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for ours, wanted in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(ours, wanted)
        os.environ.update(question["environment"])
        main(question["arguments"], prog_name="buckler")
    except SystemExit as end:
        code = end.code
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
