"""Reading the ring buffer of events through its two mapped pages. Owns the consumer's position, not the events' meaning."""

from __future__ import annotations

import mmap
import struct

_POSITION = struct.Struct("<Q")
_HEADER = struct.Struct("<II")
_BUSY, _DISCARDED = 1 << 31, 1 << 30


class Ring:
    """One reader per ring: the position is shared with the kernel and survives this process."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = size
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._data = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)

    def read(self, limit: int) -> list[bytes]:
        """Take up to ``limit`` records, oldest first."""
        taken: list[bytes] = []
        (position,) = _POSITION.unpack_from(self._consumer)
        (end,) = _POSITION.unpack_from(self._data)
        while position < end and len(taken) < limit:
            at = mmap.PAGESIZE + (position & self._size - 1)
            length, _ = _HEADER.unpack_from(self._data, at)
            if length & _BUSY:
                break
            size = length & ~(_BUSY | _DISCARDED)
            if not length & _DISCARDED:
                taken.append(self._data[at + _HEADER.size : at + _HEADER.size + size])
            position += size + _HEADER.size + 7 & ~7
        _POSITION.pack_into(self._consumer, 0, position)
        return taken

    def close(self) -> None:
        """Unmap."""
        self._consumer.close()
        self._data.close()
