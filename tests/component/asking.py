"""Run inside a host's namespaces: what do the pinned programs say of frames at an interface? Touches nothing but counters."""

from __future__ import annotations

import json
import sys

from buckler.drivers.ebpf.hook_run import run_hook
from buckler.drivers.ebpf.kernel import Kernel


def main() -> None:
    kernel = Kernel()
    assert kernel.open(), "these are not the pins of this build"
    asked = json.load(sys.stdin)
    passed = [run_hook(kernel, hook, bytes.fromhex(frame), asked["ifindex"]).passed for hook, frame in asked["frames"]]
    sys.stdout.write(json.dumps(passed))


main()
