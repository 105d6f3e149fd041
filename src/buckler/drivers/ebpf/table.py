"""One eBPF map as bytes → bytes. Owns looking up, replacing and listing; knows no layout."""

from __future__ import annotations

import ctypes as c
import errno
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from buckler.drivers.ebpf import libbpf
from buckler.drivers.ebpf.libbpf import KernelRefused, check

_CHUNK = 4096
_PER_CPU_TYPES = frozenset({5, 6, 10})
_FULL = frozenset({errno.E2BIG, errno.ENOSPC})
_NOT_SUPPORTED = frozenset({524, errno.EINVAL, errno.EOPNOTSUPP})
_INFO = struct.Struct("=IIIIII")
"""struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags."""


def count_possible_cpus() -> int:
    """How many values an element of a per-CPU map has."""
    last = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


class Table:
    """Owns its descriptor. Per-CPU values come as one value after the other, each rounded up to 8 bytes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.id: int
        self.key_size: int
        self.value_size: int
        self.max_entries: int
        kind, self.id, self.key_size, self.value_size, self.max_entries, _ = _INFO.unpack_from(libbpf.get_info(fd))
        per_cpu = kind in _PER_CPU_TYPES
        self.read_size = (self.value_size + 7 & ~7) * count_possible_cpus() if per_cpu else self.value_size

    @classmethod
    def create(cls, kind: int, name: str, sizes: tuple[int, int], max_entries: int, flags: int = 0) -> Table:
        """Make a new map of (key, value) ``sizes``."""
        options = libbpf.MapOptions(sz=c.sizeof(libbpf.MapOptions), map_flags=flags)
        made = libbpf.map_create(kind, name.encode()[:15], *sizes, max_entries, c.byref(options))
        return cls(check(made, f"create map {name}"))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None when there is none."""
        buffer = c.create_string_buffer(self.read_size)
        if libbpf.map_lookup(self.fd, key, buffer) == 0:
            return buffer.raw
        if c.get_errno() != errno.ENOENT:
            check(-1, "look up")
        return None

    def put(self, key: bytes, value: bytes, flags: int = libbpf.ANY) -> None:
        """Add or replace one element."""
        check(libbpf.map_update(self.fd, key, value, flags), "update")

    def delete(self, key: bytes) -> None:
        """Remove one element; none there is no error."""
        if libbpf.map_delete(self.fd, key) < 0 and c.get_errno() != errno.ENOENT:
            check(-1, "delete")

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """Add or replace many, in batches where the kernel has them."""
        if self.put_many(b"".join(entries), b"".join(entries.values())) < len(entries):
            check(-1, "update batch")

    def put_many(self, keys: bytes, values: bytes) -> int:
        """The same of keys and values that stand one behind the other. Returns how many found room."""
        count, done = len(keys) // self.key_size, 0
        for start in range(0, count, _CHUNK):
            stop = min(start + _CHUNK, count)
            part = keys[start * self.key_size : stop * self.key_size]
            filled = self._put_batch(part, values[start * self.read_size : stop * self.read_size])
            done += filled
            if filled < stop - start:
                break
        return done

    def _put_batch(self, keys: bytes, values: bytes) -> int:
        count = len(keys) // self.key_size
        options, done = libbpf.BatchOptions(sz=c.sizeof(libbpf.BatchOptions)), c.c_uint32(count)
        if libbpf.map_update_batch(self.fd, keys, values, c.byref(done), c.byref(options)) == 0:
            return count
        if c.get_errno() in _FULL:
            return int(done.value)
        if c.get_errno() not in _NOT_SUPPORTED:
            check(-1, "update batch")
        for number, (key, value) in enumerate(_split(keys, values, count, self.key_size, self.read_size)):
            if libbpf.map_update(self.fd, key, value, libbpf.ANY) < 0:
                if c.get_errno() in _FULL:
                    return number
                check(-1, "update")
        return count

    def each_key(self) -> Iterator[bytes]:
        """All keys. What changes meanwhile may be missed or seen twice."""
        key: bytes | None = None
        following = c.create_string_buffer(self.key_size)
        while libbpf.map_next(self.fd, key, following) == 0:
            key = following.raw
            yield key
        if c.get_errno() != errno.ENOENT:
            check(-1, "next key")

    def items(self) -> dict[bytes, bytes]:
        """All elements. One that moved meanwhile stands once."""
        keys, values = self.dump()
        return dict(_split(keys, values, len(keys) // self.key_size, self.key_size, self.read_size))

    def dump(self) -> tuple[bytes, bytes]:
        """All keys and all values, one behind the other, in batches where the kernel has them."""
        try:
            return self._dump_in_batches()
        except KernelRefused as refused:
            if refused.errno not in _NOT_SUPPORTED:
                raise
        found = {key: value for key in list(self.each_key()) if (value := self.get(key)) is not None}
        return b"".join(found), b"".join(found.values())

    def _dump_in_batches(self) -> tuple[bytes, bytes]:
        chunk = _CHUNK
        all_keys, all_values = bytearray(), bytearray()
        token: c.Array[c.c_char] | None = None
        following = c.create_string_buffer(max(self.key_size, 8))
        while True:
            keys, values = c.create_string_buffer(self.key_size * chunk), c.create_string_buffer(self.read_size * chunk)
            options, count = libbpf.BatchOptions(sz=c.sizeof(libbpf.BatchOptions)), c.c_uint32(chunk)
            result = libbpf.map_lookup_batch(self.fd, token, following, keys, values, c.byref(count), c.byref(options))
            failure = c.get_errno() if result < 0 else 0
            if failure == errno.ENOSPC:
                chunk *= 2
                continue
            if failure not in (0, errno.ENOENT):
                check(-1, "look up batch")
            all_keys += memoryview(keys)[: count.value * self.key_size]
            all_values += memoryview(values)[: count.value * self.read_size]
            if failure:
                return bytes(all_keys), bytes(all_values)
            token = c.create_string_buffer(following.raw, len(following.raw))


def _split(keys: bytes, values: bytes, count: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    for i in range(count):
        yield keys[i * key_size : (i + 1) * key_size], values[i * value_size : (i + 1) * value_size]
