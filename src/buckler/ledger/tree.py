"""Merkle trees (RFC 9162, 2.1): hashes, the growing edge, inclusion and consistency proofs. Stores no node.

A node is named by its level (0: leaves) and its number on that level, and exists once all leaves below it do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

Hash = bytes
Node = tuple[int, int]
"""(level, number): the root over leaves number << level up to, not including, (number + 1) << level."""
Cover = tuple[Node, ...]
"""Nodes side by side, whose hashes give one hash: complete subtrees of falling size."""


class BadProof(ValueError):
    """A proof that does not prove; the message says why."""


def leaf_hash(content: bytes) -> Hash:
    """Hash a leaf (2.1.1)."""
    return hashlib.sha256(b"\0" + content).digest()


def node_hash(left: Hash, right: Hash) -> Hash:
    """Hash an inner node (2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Edge(msgspec.Struct, frozen=True):
    """The right edge of a tree: all that growing needs. ``peaks`` are the roots of its complete subtrees, largest first."""

    size: int = 0
    peaks: tuple[Hash, ...] = ()

    @property
    def root(self) -> Hash:
        """The tree's hash; that of the empty tree is defined too."""
        return fold(self.peaks)


def grown(edge: Edge, leaf: Hash) -> tuple[Edge, tuple[tuple[Node, Hash], ...]]:
    """Append a leaf; return the new edge and the nodes that became complete by it: two on average."""
    level, number, peaks, found = 0, edge.size, list(edge.peaks), leaf
    nodes = [((0, number), leaf)]
    while number & 1:
        found = node_hash(peaks.pop(), found)
        level, number = level + 1, number >> 1
        nodes.append(((level, number), found))
    return Edge(edge.size + 1, (*peaks, found)), tuple(nodes)


def cover(first: int, end: int) -> Cover:
    """Name the complete subtrees that make up leaves ``first`` to ``end`` (exclusive) as one part of a tree."""
    nodes = []
    while first < end:
        level = (end - first).bit_length() - 1
        nodes.append((level, first >> level))
        first += 1 << level
    return tuple(nodes)


def fold(hashes: Sequence[Hash]) -> Hash:
    """Hash what a cover's nodes hash to, from the right (2.1.1)."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    found = hashes[-1]
    for left in reversed(hashes[:-1]):
        found = node_hash(left, found)
    return found


def folded(covers: Sequence[Cover], nodes: Mapping[Node, Hash]) -> tuple[Hash, ...]:
    """Turn the covers of a planned proof into its hashes."""
    return tuple(fold([nodes[node] for node in each]) for each in covers)


def plan_inclusion(index: int, size: int) -> tuple[Cover, ...]:
    """Name what proves that leaf ``index`` is in the tree of ``size`` leaves, lowest first (2.1.3.1)."""
    if not 0 <= index < size:
        raise BadProof(f"a tree of {size} leaves has no leaf {index}")
    path: list[Cover] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(cover(middle, end))
            end = middle
        else:
            path.append(cover(first, middle))
            first = middle
    return tuple(reversed(path))


def plan_consistency(old: int, new: int) -> tuple[Cover, ...]:
    """Name what proves that the tree of ``old`` leaves is the beginning of that of ``new`` (2.1.4.1)."""
    if not 0 < old <= new:
        raise BadProof(f"no proof leads from {old} to {new} leaves")
    path: list[Cover] = []
    first, end, is_whole = 0, new, True
    while end != old:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(cover(middle, end))
            end = middle
        else:
            path.append(cover(first, middle))
            first, is_whole = middle, False
    if not is_whole:
        path.append(cover(first, end))
    return tuple(reversed(path))


def verify_inclusion(leaf: Hash, index: int, size: int, path: Sequence[Hash], root: Hash) -> None:
    """Check an inclusion proof (2.1.3.2). Raises BadProof."""
    if not 0 <= index < size:
        raise BadProof(f"a tree of {size} leaves has no leaf {index}")
    number, last, found = index, size - 1, leaf
    for each in path:
        if last == 0:
            raise BadProof("the proof is too long")
        if number & 1 or number == last:
            found = node_hash(each, found)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, each)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise BadProof("the proof is too short")
    if found != root:
        raise BadProof("the proof leads to another root")


def verify_consistency(old: int, new: int, path: Sequence[Hash], old_root: Hash, new_root: Hash) -> None:
    """Check a consistency proof (2.1.4.2). Nothing at all is the beginning of every tree. Raises BadProof."""
    if not 0 <= old <= new:
        raise BadProof(f"a tree of {new} leaves cannot continue one of {old}")
    if old in (0, new):
        _check_trivial(old, path, old_root, new_root)
        return
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not hashes:
        raise BadProof("the proof is empty")
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    then = now = hashes[0]
    for each in hashes[1:]:
        if last == 0:
            raise BadProof("the proof is too long")
        if number & 1 or number == last:
            then, now = node_hash(each, then), node_hash(each, now)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            now = node_hash(now, each)
        number, last = number >> 1, last >> 1
    if last != 0:
        raise BadProof("the proof is too short")
    if (then, now) != (old_root, new_root):
        raise BadProof("the newer tree does not continue the older one")


def _check_trivial(old: int, path: Sequence[Hash], old_root: Hash, new_root: Hash) -> None:
    if path:
        raise BadProof("the proof is too long")
    if old_root != (new_root if old else fold(())):
        raise BadProof("the newer tree does not continue the older one")


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)
