"""Hanging programs at interfaces: tcx links where the kernel has them, else clsact filters. Owns no configuration."""

from __future__ import annotations

import ctypes as c
import errno
import os
import struct
from collections.abc import Iterable, Mapping

from buckler.drivers.ebpf import libbpf
from buckler.drivers.ebpf.bpffs import Pins
from buckler.drivers.ebpf.libbpf import KernelRefused, check

TAP_HOOKS = ("tap_from_vm", "tap_to_vm")
PORT_HOOKS = ("port_from_outside", "port_from_tunnel")
HOOKS = (*TAP_HOOKS, *PORT_HOOKS)
_EGRESS_HOOK = "tap_to_vm"
_PRIORITY = 1
_BOTH_POINTS = libbpf.CLSACT_INGRESS | libbpf.CLSACT_EGRESS
_REPLACE = 1
_LINK_INFO = struct.Struct("=III4xI")
"""struct bpf_link_info: type, id, prog_id, tcx.ifindex (0 when the interface is gone or the link was detached)."""


class Attachments:
    """All methods are idempotent and raise KernelRefused."""

    def __init__(self, pins: Pins, hooks: Mapping[str, int], *, tcx: bool | None) -> None:
        self._pins = pins
        self._hooks = hooks
        self._program_ids: dict[str, int] = {
            name: struct.unpack_from("=II", libbpf.get_info(fd))[1] for name, fd in hooks.items()
        }
        self._tcx = tcx

    def attach(self, ifindex: int, hook: str) -> None:
        """Hang ``hook`` at an interface, replacing a dead link of an earlier interface with that index."""
        if self.is_attached(ifindex, hook):
            return
        if self._tcx is not False and self._attach_tcx(ifindex, hook):
            return
        self._attach_clsact(ifindex, hook)

    def detach(self, ifindex: int, hook: str) -> None:
        """Take ``hook`` away; nothing there is no error."""
        path = self._pins.link(ifindex, hook)
        if path.exists():
            _detach_link(path)
            path.unlink(missing_ok=True)
        handle = _hook_at(ifindex, hook)
        if not self._tcx and _query(ifindex, hook, handle.attach_point):
            options = _filter_options(hook)
            result = libbpf.tc_detach(c.byref(handle), c.byref(options))
            if result < 0 and -result not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                check(result, "detach filter")

    def is_attached(self, ifindex: int, hook: str) -> bool:
        """Ask the kernel whether our very program judges there now."""
        ours = self._program_ids[hook]
        return self._linked_program(ifindex, hook) == ours or self._find_filter(ifindex, hook) == ours

    def upgrade(self, taps: Iterable[int], ports: Iterable[int]) -> None:
        """Swap our programs into every live link or filter of an earlier object."""
        for ifindex, hooks in [(i, TAP_HOOKS) for i in taps] + [(i, PORT_HOOKS) for i in ports]:
            for hook in hooks:
                if self._linked_program(ifindex, hook):
                    self._swap_link(ifindex, hook)
                elif self._find_filter(ifindex, hook):
                    self._attach_clsact(ifindex, hook)

    def _swap_link(self, ifindex: int, hook: str) -> None:
        link = libbpf.get_pinned(self._pins.link(ifindex, hook))
        try:
            check(libbpf.link_update(link, self._hooks[hook], None), f"swap {hook}")
        finally:
            os.close(link)

    def _attach_tcx(self, ifindex: int, hook: str) -> bool:
        point = libbpf.TCX_EGRESS if hook == _EGRESS_HOOK else libbpf.TCX_INGRESS
        try:
            link = check(libbpf.link_create(self._hooks[hook], ifindex, point, None), f"attach {hook} to {ifindex}")
        except KernelRefused as refused:
            if self._tcx is None and refused.errno == errno.EINVAL:
                self._tcx = False  # before Linux 6.6
                return False
            raise
        try:
            path = self._pins.link(ifindex, hook)
            path.unlink(missing_ok=True)
            libbpf.pin(link, path)
        finally:
            os.close(link)
        return True

    def _attach_clsact(self, ifindex: int, hook: str) -> None:
        qdisc = libbpf.TcHook(c.sizeof(libbpf.TcHook), ifindex, _BOTH_POINTS, 0)
        result = libbpf.tc_hook_create(c.byref(qdisc))
        if result < 0 and -result != errno.EEXIST:
            check(result, f"add clsact to {ifindex}")
        handle = _hook_at(ifindex, hook)
        options = _filter_options(hook)
        options.prog_fd, options.flags = self._hooks[hook], _REPLACE
        check(libbpf.tc_attach(c.byref(handle), c.byref(options)), f"attach {hook} to {ifindex}")
        if not self._find_filter(ifindex, hook):
            raise KernelRefused(errno.EBUSY, f"attach {hook} to {ifindex}: another qdisc has the place of clsact")

    def _linked_program(self, ifindex: int, hook: str) -> int:
        """The id of the program in a live link, else 0."""
        path = self._pins.link(ifindex, hook)
        if not path.exists():
            return 0
        link = libbpf.get_pinned(path)
        try:
            _, _, program, at = _LINK_INFO.unpack_from(libbpf.get_info(link))
        finally:
            os.close(link)
        return int(program) if at == ifindex else 0

    def _find_filter(self, ifindex: int, hook: str) -> int:
        """The id of the program in our clsact filter, else 0.

        Where somebody's ``ingress`` qdisc (a bandwidth limit of libvirt) sits in clsact's place, both points are one:
        what was hung towards the VM would judge frames from it. A filter that both points show is none.
        """
        if self._tcx:
            return 0
        here = libbpf.CLSACT_EGRESS if hook == _EGRESS_HOOK else libbpf.CLSACT_INGRESS
        return 0 if _query(ifindex, hook, _BOTH_POINTS ^ here) else _query(ifindex, hook, here)


def _query(ifindex: int, hook: str, point: int) -> int:
    handle, options = libbpf.TcHook(c.sizeof(libbpf.TcHook), ifindex, point, 0), _filter_options(hook)
    return int(options.prog_id) if libbpf.tc_query(c.byref(handle), c.byref(options)) == 0 else 0


def _hook_at(ifindex: int, hook: str) -> libbpf.TcHook:
    point = libbpf.CLSACT_EGRESS if hook == _EGRESS_HOOK else libbpf.CLSACT_INGRESS
    return libbpf.TcHook(c.sizeof(libbpf.TcHook), ifindex, point, 0)


def _filter_options(hook: str) -> libbpf.TcOptions:
    """Name our filter: each hook has a handle of its own, so that one role's is never taken for the other's."""
    return libbpf.TcOptions(sz=c.sizeof(libbpf.TcOptions), handle=HOOKS.index(hook) + 1, priority=_PRIORITY)


def _detach_link(path: os.PathLike[str]) -> None:
    link = libbpf.get_pinned(path)
    try:
        libbpf.link_detach(link)  # a dead one refuses: it is detached already
    finally:
        os.close(link)
