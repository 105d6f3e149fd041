"""The oldest kernel that Buckler supports runs the packet tests of this folder: the very files, inside a machine with Linux 6.1.

What is asserted here: every test that exists for this kernel ran there, none failed, and a broken object would be noticed.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from defusedxml import ElementTree

from buckler.lab.guest.image import image
from tests.guestkernel import CHECKOUT, Run, boot, prepare

HALVES = tuple(
    tuple(f"tests/component/test_{name}.py" for name in names)
    for names in (
        ("connections", "directions", "standing", "claims", "offload", "resets", "waiting", "services_offload"),
        ("bypass", "short_way", "terms", "answers_offload", "services", "services_asked", "services_hostile"),
    )
)
"""Each half in a machine of its own, both at once: an emulated one uses one processor."""
FILES = tuple(file for half in HALVES for file in half)
LEFT_OUT = {
    "[clsact]": "Linux 6.1 has no tcx: the same test with [tcx] falls back to clsact there",
    "[clsact-": "the same",
    "without_the_control": "there is no compiler in there",
    "both_ways_say": "the same",
}
"""Part of a test's name → why it is not run there."""
SELECTED = (
    "-q",
    "--color=no",
    "--tb=short",
    "--durations=20",
    "-k",
    " and ".join(f"not {part.strip('[]')}" for part in LEFT_OUT),
)
OBJECT = "src/buckler/drivers/ebpf/shield.bpf.o"
BROKEN = Run(("-q", "--color=no", "--tb=short", "-k", "echo", FILES[0]), before=f"echo broken >{OBJECT}")
SECONDS = 2400


@dataclass(frozen=True)
class Ran:
    """Test ids by outcome."""

    passed: frozenset[str]
    failed: dict[str, str]
    skipped: dict[str, str]

    @property
    def all(self) -> frozenset[str]:
        return self.passed | self.failed.keys() | self.skipped.keys()


def read_report(text: str) -> Ran:
    passed, failed, skipped = set(), {}, {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        problems = [*case.findall("failure"), *case.findall("error")]
        if problems:
            failed[name] = problems[0].text or ""
        elif (skip := case.find("skipped")) is not None:
            skipped[name] = skip.get("message") or ""
        else:
            passed.add(name)
    return Ran(frozenset(passed), failed, skipped)


def collect_here() -> frozenset[str]:
    """Ids as a report writes them, of all tests in the files."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *FILES]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    ids = (line.partition("::") for line in listed.splitlines() if "::" in line)
    return frozenset(f"{file.removesuffix('.py').replace('/', '.')}::{name}" for file, _, name in ids)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Ran, Ran]:
    """What the machine said; what ran there; what ran there with a broken object."""
    guest, scratch = image(print), tmp_path_factory.mktemp("linux61")
    layers = prepare(guest)
    runs = [[Run((*SELECTED, *half))] for half in HALVES]
    runs[-1].append(BROKEN)
    with ThreadPoolExecutor() as machines:
        folders = [scratch / str(number) for number in range(len(runs))]
        for folder in folders:
            folder.mkdir()
        booted = list(machines.map(lambda run, folder: boot(guest, layers, run, folder, SECONDS), runs, folders))
    for found in booted:
        assert all(found.reports), found.console[-6000:]
    *halves, broken = [read_report(report) for found in booted for report in found.reports]
    whole = Ran(
        frozenset().union(*(half.passed for half in halves)),
        {name: text for half in halves for name, text in half.failed.items()},
        {name: text for half in halves for name, text in half.skipped.items()},
    )
    return "".join(found.console for found in booted), whole, broken


@pytest.mark.timeout(SECONDS + 60)
def test_every_packet_test_passes_on_linux_6_1(booted: tuple[str, Ran, Ran]) -> None:
    console, ran, _ = booted
    assert console.count("kernel 6.1.") == len(HALVES)
    assert not ran.failed, "\n".join(f"{name}\n{text[-1500:]}" for name, text in ran.failed.items())
    assert ran.skipped == {}
    assert ran.passed


@pytest.mark.timeout(SECONDS + 60)
def test_all_but_the_named_tests_ran_there(booted: tuple[str, Ran, Ran]) -> None:
    here = collect_here()
    left_out = {part: {name for name in here if part in name} for part in LEFT_OUT}
    assert all(left_out.values()), "what is left out by name exists"
    assert booted[1].all == here - set().union(*left_out.values())


@pytest.mark.timeout(SECONDS + 60)
def test_a_broken_object_would_be_noticed(booted: tuple[str, Ran, Ran]) -> None:
    broken = booted[2]
    assert not broken.passed
    assert len(broken.failed) == 1
    assert all("cannot open the shield" in text for text in broken.failed.values())
