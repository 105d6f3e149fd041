from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_reference_of_the_command_line_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference_cli.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
