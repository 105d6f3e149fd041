"""Real processes, real signals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from buckler.up.supervise import Child, supervise


def test_a_child_that_ends_is_started_again_and_stopped_in_the_end(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    program = f"open({str(marks)!r}, 'a').write('x'); import time; time.sleep(0 if len(open({str(marks)!r}).read()) == 1 else 60)"
    said: list[str] = []
    child = Child("worker", (sys.executable, "-c", program), said.append)
    child.start()

    def interrupt() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (marks.exists() and len(marks.read_text()) == 2):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    before = signal.getsignal(signal.SIGTERM)
    supervise({"worker": child}, said.append)
    assert marks.read_text() == "xx"
    assert any("ended with 0" in line for line in said)
    assert said[-1] == "stopping the worker"
    assert child.exit_code == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
