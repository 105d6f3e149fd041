"""``./bench starts``: a private host starts a flooding VM many times; fails when a single frame leaks. Measures nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.component.agenthost import agent_host  # noqa: E402 - the tests are no package of ours
from tests.component.starting import Starts, start_often  # noqa: E402 - the same


def main() -> int:
    """Return 1 when anything was seen that must not be."""
    parser = argparse.ArgumentParser(prog="./bench starts", description=__doc__)
    parser.add_argument("-n", "--count", type=int, default=1000, help="how many starts (default: 1000)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    with agent_host(vms=1) as host:
        host.start_agent()
        host.host.restart_libvirtd()
        result = start_often(host, arguments.count)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    sys.stdout.write(describe(result) + "\n")
    return 1 if result.forbidden_seen or result.missed else 0


def describe(result: Starts) -> str:
    """Say it in a few lines."""
    seen = ", ".join(f"{count} at {where}" for where, count in result.forbidden_seen.items()) or "none"
    allowed = ", ".join(f"{count} at {where}" for where, count in result.allowed_seen.items())
    return (
        f"{result.starts} starts in {result.seconds} s (median {result.median} s, slowest {result.slowest} s to the first frame)\n"
        f"forbidden frames: {result.forbidden_sent} came out of the VM, {seen} got past its shield\n"
        f"allowed frames seen elsewhere: {allowed}; frames that the observer missed: {result.missed}; starts that libvirt lost: {result.lost}"
    )


if __name__ == "__main__":
    sys.exit(main())
