"""A router with ends around it, in network namespaces: what does a forwarded packet meet? Owns the wires, not the rules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROUTER = "impR"
PROBE = Path(__file__).with_name("probing.py")
_SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.all.accept_dad=0",
)


def run(*words: str, text: str | None = None) -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def inside(namespace: str, *words: str, text: str | None = None) -> str:
    return run("ip", "netns", "exec", namespace, *words, text=text)


@contextmanager
def router(ends: dict[str, Sequence[str]]) -> Iterator[None]:
    """Put each end, with its addresses, on a wire of its own to one router."""
    spaces = [ROUTER, *(f"imp{index}" for index in range(len(ends)))]
    try:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
            run("ip", "netns", "add", space)
            inside(space, "sysctl", "-q", "-w", *_SETTINGS)
            inside(space, "ip", "link", "set", "lo", "up")
        for index, addresses in enumerate(ends.values()):
            _wire(index, addresses)
        yield
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def _wire(index: int, addresses: Sequence[str]) -> None:
    near, far = f"imp{index}", f"v{index}"
    run("ip", "-n", ROUTER, "link", "add", far, "type", "veth", "peer", "name", "eth0", "netns", near)
    run("ip", "-n", ROUTER, "addr", "add", "169.254.1.1/32", "dev", far)
    run("ip", "-n", ROUTER, "addr", "add", "fe80::1/64", "dev", far, "nodad")
    for space, device in ((ROUTER, far), (near, "eth0")):
        run("ip", "-n", space, "link", "set", device, "up")
    for address in addresses:
        width = "128" if ":" in address else "32"
        nodad = ["nodad"] if ":" in address else []
        run("ip", "-n", near, "addr", "add", f"{address}/{width}", "dev", "eth0", *nodad)
        run("ip", "-n", ROUTER, "route", "add", f"{address}/{width}", "dev", far)
    run("ip", "-n", near, "route", "add", "default", "via", "169.254.1.1", "dev", "eth0", "onlink")
    run("ip", "-n", near, "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")


def probe(index: int, questions: list[tuple[str, str, str, int]], first_port: int) -> list[bool]:
    """Ask from one end: (own address, target, protocol, port or ICMP type). An answer of any kind means that it passed."""
    asked = json.dumps({"questions": questions, "first_port": first_port})
    return list(json.loads(inside(f"imp{index}", sys.executable, str(PROBE), text=asked)))
