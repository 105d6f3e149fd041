"""The shield with one control switched off, for tests that must see that they can fail. The product has no such switch.

A copy of the sources forgives one reason at the one place where reasons become refusals; everything else stays.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from buckler.drivers.ebpf.reasons import Reason

SOURCES = Path(__file__).parents[2] / "bpf"
PLACE, FILE = "return reason >= REASON_FIRST_REFUSAL || reason == REASON_NONE;", "lib/counters.h"


def build_without(reason: Reason) -> Path:
    """An object that lets pass what ``reason`` refuses; kept between runs by what it was built from."""
    folder = Path(tempfile.gettempdir()) / "buckler-switched-off"
    built = folder / f"{reason.name.lower()}-{_digest_sources()}.bpf.o"
    if not built.exists():
        with tempfile.TemporaryDirectory() as work:
            copy = Path(work) / "bpf"
            shutil.copytree(SOURCES, copy)
            _forgive(copy / FILE, reason)
            options = [f"BUILD={work}/out", f"PACKAGE={work}/package"]
            subprocess.run(["make", "-s", "-C", copy, *options], check=True, capture_output=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            shutil.move(f"{work}/out/shield.bpf.o", built)
    return built


def _forgive(file: Path, reason: Reason) -> None:
    text = file.read_text()
    assert text.count(PLACE) == 1, "the place where reasons become refusals has moved"
    file.write_text(
        text.replace(PLACE, PLACE.replace("return ", f"return reason != REASON_{reason.name} && (")[:-1] + ");")
    )


def _digest_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
