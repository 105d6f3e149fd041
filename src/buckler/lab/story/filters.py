"""The meddling hand: takes the programs off an interface and waits until somebody puts them back.

``python -m buckler.lab.story.filters TAP``, run on a host, prints the seconds until both directions were filtered again.
Speaks to the kernel directly: it is an observer, no part of Buckler's own drivers.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time

NR_BPF = 321
BPF_PROG_QUERY, BPF_LINK_GET_FD_BY_ID, BPF_LINK_DETACH = 16, 30, 34
BPF_TCX_INGRESS, BPF_TCX_EGRESS = 46, 47
DIRECTIONS = {"ingress": BPF_TCX_INGRESS, "egress": BPF_TCX_EGRESS}
PATIENCE = 10.0
MOST = 16

_libc = ctypes.CDLL(None, use_errno=True)


class _Query(ctypes.Structure):
    """``union bpf_attr`` of BPF_PROG_QUERY."""

    _fields_ = (
        ("target_ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("prog_attach_flags", ctypes.c_uint64),
        ("link_ids", ctypes.c_uint64),
        ("link_attach_flags", ctypes.c_uint64),
        ("revision", ctypes.c_uint64),
    )


def tcx_links(interface: str, direction: str) -> list[int]:
    """Return the ids of the tcx links of one direction; none on a kernel without tcx."""
    programs, links = (ctypes.c_uint32 * MOST)(), (ctypes.c_uint32 * MOST)()
    query = _Query(target_ifindex=socket.if_nametoindex(interface), attach_type=DIRECTIONS[direction], count=MOST)
    query.prog_ids, query.link_ids = ctypes.addressof(programs), ctypes.addressof(links)
    if _bpf(BPF_PROG_QUERY, query) < 0:
        return []
    return list(links[: query.count])


def classic_filters(interface: str, direction: str) -> int:
    """Count the programs that hang at the classic clsact hook."""
    shown = subprocess.run(
        ["tc", "filter", "show", "dev", interface, direction], capture_output=True, text=True, check=False
    )
    return sum("bpf" in line and "handle" in line for line in shown.stdout.splitlines())


def is_filtered(interface: str) -> bool:
    """Say whether a program stands in both directions."""
    return all(tcx_links(interface, way) or classic_filters(interface, way) for way in DIRECTIONS)


def detach(interface: str) -> int:
    """Take every program off the interface, both directions; return how many there were."""
    taken = 0
    for way in DIRECTIONS:
        for link in tcx_links(interface, way):
            _detach_link(link)
            taken += 1
        if there := classic_filters(interface, way):
            subprocess.run(["tc", "filter", "del", "dev", interface, way], check=True)
            taken += there
    return taken


def _detach_link(link: int) -> None:
    fd = _bpf(BPF_LINK_GET_FD_BY_ID, (ctypes.c_uint32 * 3)(link))
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"no link {link}")
    try:
        if _bpf(BPF_LINK_DETACH, (ctypes.c_uint32 * 1)(fd)) < 0:
            raise OSError(ctypes.get_errno(), f"link {link} does not come off")
    finally:
        os.close(fd)


def _bpf(command: int, attributes: ctypes.Structure | ctypes.Array[ctypes.c_uint32]) -> int:
    return int(_libc.syscall(NR_BPF, command, ctypes.byref(attributes), ctypes.sizeof(attributes)))


def main() -> int:
    """Meddle, wait, tell."""
    interface = sys.argv[1]
    if not is_filtered(interface):
        sys.stderr.write(f"{interface} is not filtered in both directions to begin with\n")
        return 1
    detach(interface)
    began = time.monotonic()
    while not is_filtered(interface):
        if time.monotonic() - began > PATIENCE:
            sys.stderr.write(f"nobody put the programs of {interface} back within {PATIENCE:g} s\n")
            return 1
        time.sleep(0.005)
    sys.stdout.write(f"{time.monotonic() - began:.3f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
