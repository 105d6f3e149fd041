"""What holds for every room: the repository and this folder are on the path, so that rooms share worlds, packets and hosts."""

import os
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
sys.path[:0] = [str(place) for place in (_HERE, _HERE.parent) if str(place) not in sys.path]

REAL_ROOMS = ("component", "system")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a real part that is missing is a failure: a skipped test proves nothing."""
    report = yield
    room = Path(item.path).relative_to(_HERE).parts[0]
    if report.skipped and not hasattr(report, "wasxfail") and room in REAL_ROOMS and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
