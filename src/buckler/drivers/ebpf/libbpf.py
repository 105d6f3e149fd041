"""The functions of libbpf.so.1 that we call, and their option structs. Knows nothing of Buckler's maps."""

from __future__ import annotations

import ctypes as c
import errno
import os
from collections.abc import Callable
from typing import Any

TCX_INGRESS, TCX_EGRESS = 46, 47
CLSACT_INGRESS, CLSACT_EGRESS = 1, 2
HASH, ARRAY, LRU_HASH, LPM_TRIE = 1, 2, 9, 11
NO_PREALLOC = 1
ANY, NOEXIST = 0, 1


class KernelRefused(OSError):
    """A call into the kernel failed; ``errno`` says how."""


class MapOptions(c.Structure):
    _fields_ = (
        ("sz", c.c_size_t),
        ("btf_fd", c.c_uint32),
        ("btf_key_type_id", c.c_uint32),
        ("btf_value_type_id", c.c_uint32),
        ("btf_vmlinux_value_type_id", c.c_uint32),
        ("inner_map_fd", c.c_uint32),
        ("map_flags", c.c_uint32),
        ("map_extra", c.c_uint64),
        ("numa_node", c.c_uint32),
        ("map_ifindex", c.c_uint32),
    )


class BatchOptions(c.Structure):
    _fields_ = (("sz", c.c_size_t), ("elem_flags", c.c_uint64), ("flags", c.c_uint64))


class TcHook(c.Structure):
    _fields_ = (("sz", c.c_size_t), ("ifindex", c.c_int), ("attach_point", c.c_int), ("parent", c.c_uint32))


class TcOptions(c.Structure):
    _fields_ = (
        ("sz", c.c_size_t),
        ("prog_fd", c.c_int),
        ("flags", c.c_uint32),
        ("prog_id", c.c_uint32),
        ("handle", c.c_uint32),
        ("priority", c.c_uint32),
    )


class TestRunOptions(c.Structure):
    _fields_ = (
        ("sz", c.c_size_t),
        ("data_in", c.c_void_p),
        ("data_out", c.c_void_p),
        ("data_size_in", c.c_uint32),
        ("data_size_out", c.c_uint32),
        ("ctx_in", c.c_void_p),
        ("ctx_out", c.c_void_p),
        ("ctx_size_in", c.c_uint32),
        ("ctx_size_out", c.c_uint32),
        ("retval", c.c_uint32),
        ("repeat", c.c_int),
        ("duration", c.c_uint32),
        ("flags", c.c_uint32),
        ("cpu", c.c_uint32),
        ("batch_size", c.c_uint32),
    )


_library = c.CDLL("libbpf.so.1", use_errno=True)
_POINTER, _INT, _U32, _TEXT = c.c_void_p, c.c_int, c.c_uint32, c.c_char_p


def _declare(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function  # type: ignore[no-any-return]


set_print = _declare("libbpf_set_print", _POINTER, _POINTER)
object_open = _declare("bpf_object__open_file", _POINTER, _TEXT, _POINTER)
object_load = _declare("bpf_object__load", _INT, _POINTER)
object_close = _declare("bpf_object__close", None, _POINTER)
object_find_map = _declare("bpf_object__find_map_by_name", _POINTER, _POINTER, _TEXT)
object_find_program = _declare("bpf_object__find_program_by_name", _POINTER, _POINTER, _TEXT)
map_fd = _declare("bpf_map__fd", _INT, _POINTER)
map_set_pin_path = _declare("bpf_map__set_pin_path", _INT, _POINTER, _TEXT)
map_set_max_entries = _declare("bpf_map__set_max_entries", _INT, _POINTER, _U32)
program_fd = _declare("bpf_program__fd", _INT, _POINTER)
program_set_log = _declare("bpf_program__set_log_buf", _INT, _POINTER, _POINTER, c.c_size_t)
program_set_log_level = _declare("bpf_program__set_log_level", _INT, _POINTER, _U32)
obj_pin = _declare("bpf_obj_pin", _INT, _INT, _TEXT)
obj_get = _declare("bpf_obj_get", _INT, _TEXT)
obj_info = _declare("bpf_obj_get_info_by_fd", _INT, _INT, _POINTER, c.POINTER(c.c_uint32))
map_create = _declare("bpf_map_create", _INT, _INT, _TEXT, _U32, _U32, _U32, _POINTER)
map_freeze = _declare("bpf_map_freeze", _INT, _INT)
map_fd_by_id = _declare("bpf_map_get_fd_by_id", _INT, _U32)
map_update = _declare("bpf_map_update_elem", _INT, _INT, _POINTER, _POINTER, c.c_uint64)
map_lookup = _declare("bpf_map_lookup_elem", _INT, _INT, _POINTER, _POINTER)
map_delete = _declare("bpf_map_delete_elem", _INT, _INT, _POINTER)
map_next = _declare("bpf_map_get_next_key", _INT, _INT, _POINTER, _POINTER)
map_update_batch = _declare("bpf_map_update_batch", _INT, _INT, _POINTER, _POINTER, c.POINTER(c.c_uint32), _POINTER)
map_lookup_batch = _declare(
    "bpf_map_lookup_batch", _INT, _INT, _POINTER, _POINTER, _POINTER, _POINTER, c.POINTER(c.c_uint32), _POINTER
)
link_create = _declare("bpf_link_create", _INT, _INT, _INT, _INT, _POINTER)
link_update = _declare("bpf_link_update", _INT, _INT, _INT, _POINTER)
link_detach = _declare("bpf_link_detach", _INT, _INT)
tc_hook_create = _declare("bpf_tc_hook_create", _INT, _POINTER)
tc_attach = _declare("bpf_tc_attach", _INT, _POINTER, _POINTER)
tc_detach = _declare("bpf_tc_detach", _INT, _POINTER, _POINTER)
tc_query = _declare("bpf_tc_query", _INT, _POINTER, _POINTER)
prog_test_run = _declare("bpf_prog_test_run_opts", _INT, _INT, _POINTER)

set_print(None)


def check(result: int | None, what: str) -> int:
    """Return what a call returned, or raise KernelRefused with the errno it left."""
    if result is not None and result >= 0:
        return result
    number = -result if result is not None and result < -1 else c.get_errno() or errno.EINVAL
    raise KernelRefused(number, f"{what}: {os.strerror(number)}")


def get_pinned(path: os.PathLike[str]) -> int:
    """Open what is pinned at ``path``; return its descriptor."""
    return check(obj_get(os.fsencode(path)), f"open pin {path}")


def pin(fd: int, path: os.PathLike[str]) -> None:
    """Pin a descriptor's object at ``path``, which must not exist."""
    check(obj_pin(fd, os.fsencode(path)), f"pin {path}")


def get_info(fd: int, length: int = 256) -> bytes:
    """Return the kernel's ``struct bpf_*_info`` of an object, filled with zeros behind what it wrote."""
    buffer, size = c.create_string_buffer(length), c.c_uint32(length)
    check(obj_info(fd, buffer, c.byref(size)), "object info")
    return buffer.raw
