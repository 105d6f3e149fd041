"""Writes an initramfs (cpio, "newc") whose bytes depend on its content alone. Pure: no files are read here."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping

import msgspec


class Member(msgspec.Struct, frozen=True):
    """One file, folder or link of the archive; ``content`` of a link is its target."""

    path: str
    mode: int
    content: bytes = b""


def folder(path: str) -> Member:
    """Return an empty folder."""
    return Member(path, stat.S_IFDIR | 0o755)


def program(path: str, content: bytes) -> Member:
    """Return an executable file."""
    return Member(path, stat.S_IFREG | 0o755, content)


def link(path: str, target: str) -> Member:
    """Return a symbolic link."""
    return Member(path, stat.S_IFLNK | 0o777, target.encode())


def plain_file(path: str, content: bytes) -> Member:
    """Return a file that is only read."""
    return Member(path, stat.S_IFREG | 0o644, content)


def archive(members: Iterable[Member]) -> bytes:
    """Pack the members, folders before what they hold, all as root and at the epoch."""
    ordered = sorted(members, key=lambda member: member.path)
    packed = b"".join(_entry(number, member) for number, member in enumerate(ordered, start=1))
    return packed + _entry(0, Member("TRAILER!!!", 0))


def module_order(wanted: Iterable[str], dependencies: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Order module paths so that each comes after all it needs. ``dependencies`` is depmod's table, by path.

    ``wanted`` are module names as insmod knows them; a name that no path carries raises KeyError.
    """
    paths = {_module_name(path): path for path in dependencies}
    ordered: dict[str, None] = {}

    def add(path: str) -> None:
        for needed in reversed(dependencies[path]):
            add(needed)
        ordered.setdefault(path)

    for name in wanted:
        add(paths[name])
    return tuple(ordered)


def parse_dependencies(text: str) -> dict[str, tuple[str, ...]]:
    """Read ``modules.dep``."""
    lines = (line.partition(":") for line in text.splitlines() if line)
    return {path: tuple(needed.split()) for path, _, needed in lines}


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def _entry(number: int, member: Member) -> bytes:
    name = member.path.encode() + b"\0"
    fields = (number, member.mode, 0, 0, 1, 0, len(member.content), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(member.content)


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % 4)
