"""A large table cut into small content-addressed objects, so that one change is a few of them. Owns no meaning of an item.

The cut follows from the keys alone (SHA-256 of the key, four bits a level), never from the history: equal tables are equal
objects. One item changes one leaf and the branches above it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from buckler.model.canonical import digest_of
from buckler.model.ids import Digest

LEAF_LIMIT = 32
"""Items of one leaf; a larger part of the table is a branch."""
_LEVELS = 16
Contents = dict[str, tuple[int, bytes]]
"""Items by key: where the key stands (``place_of``), and the canonical JSON."""


class Shelf:
    """Objects that something refers to, counted, and what came and went since it was last asked."""

    def __init__(self) -> None:
        self.objects: dict[Digest, bytes] = {}
        self._count: dict[Digest, int] = {}
        self._fresh: set[Digest] = set()
        self._gone: set[Digest] = set()

    def hold(self, content: bytes, digest: Digest | None = None) -> Digest:
        """Refer to an object once more. ``digest``: what it is known to be named already."""
        digest = digest or digest_of(content)
        count = self._count.get(digest, 0)
        self._count[digest] = count + 1
        if not count:
            self.objects[digest] = content
            if digest in self._gone:
                self._gone.discard(digest)
            else:
                self._fresh.add(digest)
        return digest

    def release(self, digest: Digest) -> None:
        """Refer to an object once less."""
        self._count[digest] -= 1
        if self._count[digest]:
            return
        del self._count[digest], self.objects[digest]
        if digest in self._fresh:
            self._fresh.discard(digest)
        else:
            self._gone.add(digest)

    def turn(self) -> tuple[dict[Digest, bytes], frozenset[Digest]]:
        """Give what is new and what is gone since the last turn."""
        fresh, gone = {digest: self.objects[digest] for digest in self._fresh}, frozenset(self._gone)
        self._fresh.clear()
        self._gone.clear()
        return fresh, gone


class _Part:
    """A leaf (``items``) or a branch (``children``). ``digest`` is empty where it was changed since it was written."""

    __slots__ = ("children", "count", "digest", "items")

    def __init__(self) -> None:
        self.items: Contents | None = {}
        self.children: list[_Part] | None = None
        self.count = 0
        self.digest = Digest("")


class Trie:
    """A table of items by key. ``put`` and ``drop``; ``write`` then names the root and puts its objects on the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._root = _Part()

    def __len__(self) -> int:
        return self._root.count

    def put(self, key: str, item: bytes) -> None:
        """Take an item in. ``item`` is canonical JSON."""
        place = place_of(key)
        part, level = self._root, 0
        path = [part]
        while part.children is not None:
            part = part.children[step_of(place, level)]
            path.append(part)
            level += 1
        items = part.items
        assert items is not None  # noqa: S101 - what is no branch is a leaf
        old = items.get(key)
        if old is not None and old[1] == item:
            return
        items[key] = (place, item)
        for each in path:
            self._touch(each)
            each.count += old is None
        if len(items) > LEAF_LIMIT and level < _LEVELS:
            self._split(part, level)

    def drop(self, key: str) -> None:
        """Leave an item out, if it is there."""
        place = place_of(key)
        part, level = self._root, 0
        path = [part]
        while part.children is not None:
            part = part.children[step_of(place, level)]
            path.append(part)
            level += 1
        if part.items is None or part.items.pop(key, None) is None:
            return
        for each in path:
            self._touch(each)
            each.count -= 1
        small = next((each for each in path if each.children is not None and each.count <= LEAF_LIMIT), None)
        if small is not None:
            self._merge(small)

    def write(self) -> Digest:
        """Write what changed, and name the root."""
        return self._write(self._root)

    def clear(self) -> None:
        """Let go of every object."""
        self._release(self._root)
        self._root = _Part()

    def _touch(self, part: _Part) -> None:
        if part.digest:
            self._shelf.release(part.digest)
            part.digest = Digest("")

    def _split(self, part: _Part, level: int) -> None:
        items, part.items = part.items or {}, None
        part.children = [_Part() for _ in range(16)]
        for key, (place, item) in items.items():
            child = part.children[step_of(place, level)]
            assert child.items is not None  # noqa: S101 - made just now
            child.items[key] = (place, item)
            child.count += 1
        for child in part.children:
            if child.count > LEAF_LIMIT and level + 1 < _LEVELS:
                self._split(child, level + 1)

    def _merge(self, part: _Part) -> None:
        items: Contents = {}
        self._gather(part, items)
        part.children, part.items = None, items

    def _gather(self, part: _Part, items: Contents) -> None:
        self._touch(part)
        if part.items is not None:
            items.update(part.items)
        for child in part.children or ():
            self._gather(child, items)

    def _release(self, part: _Part) -> None:
        self._touch(part)
        for child in part.children or ():
            self._release(child)

    def _write(self, part: _Part) -> Digest:
        if part.digest:
            return part.digest
        if part.items is not None:
            part.digest = _write_leaf(part.items, self._shelf)
        else:
            children = [self._write(child) if child.count else Digest("") for child in part.children or ()]
            part.digest = write_branch(children, self._shelf)
        return part.digest


def write_part(items: Contents, level: int, shelf: Shelf) -> Digest:
    """Write a part of a table, ``level`` steps below its root, and name it."""
    if len(items) <= LEAF_LIMIT or level >= _LEVELS:
        return _write_leaf(items, shelf)
    parts: list[Contents] = [{} for _ in range(16)]
    for key, content in items.items():
        parts[step_of(content[0], level)][key] = content
    return write_branch([write_part(each, level + 1, shelf) if each else Digest("") for each in parts], shelf)


def write_branch(children: Iterable[Digest], shelf: Shelf) -> Digest:
    """Write a branch of parts that are written; no digest: nothing is there."""
    named = ",".join(f'"{child}"' for child in children)
    return shelf.hold(f'{{"children":[{named}]}}'.encode())


def _write_leaf(items: Contents, shelf: Shelf) -> Digest:
    content = b",".join(b'["%s",%s]' % (key.encode(), items[key][1]) for key in sorted(items))
    return shelf.hold(b'{"items":[' + content + b"]}")


def place_of(key: str) -> int:
    """Say where a key stands: four bits are one step."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def step_of(place: int, level: int) -> int:
    """Say which of sixteen parts leads to a place."""
    return place >> (60 - 4 * level) & 15
