"""Two tables compared, and one changed, by the parts that differ alone. The form of a table is trie's; owns no meaning of an item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from buckler.model.bundle import Branch, Leaf
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest
from buckler.policy.pieces import Item
from buckler.policy.trie import LEAF_LIMIT, Contents, Shelf, place_of, step_of, write_branch, write_part
from buckler.policy.walk import Nodes, Place, value_at

_NOTHING = Digest("")
Differences = dict[str, tuple[Item | None, Item | None]]
"""Items by key, as one table has them and as the other; None: it has none."""


def differences(nodes: Nodes, place: Place, one: Digest, other: Digest) -> Differences:
    """Compare two tables by their roots (empty: an empty one). Raises BadPieces."""
    found: Differences = {}
    _compare(nodes, place, one, other, found)
    return found


def _compare(nodes: Nodes, place: Place, one: Digest, other: Digest, found: Differences) -> None:
    if one == other:
        return
    first, second = (value_at(nodes, place, each) if each else None for each in (one, other))
    if isinstance(first, Branch) and isinstance(second, Branch):
        for left, right in zip(first.children, second.children, strict=True):
            _compare(nodes, place, left, right, found)
        return
    before, after = dict(_items(nodes, place, one)), dict(_items(nodes, place, other))
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            found[key] = before.get(key), after.get(key)


def _items(nodes: Nodes, place: Place, root: Digest) -> Iterator[tuple[str, Item]]:
    value = value_at(nodes, place, root) if root else None
    if isinstance(value, Leaf):
        yield from value.items
    elif value is not None:
        for child in value.children:
            yield from _items(nodes, place, child)


def patched(nodes: Nodes, place: Place, root: Digest, changes: Mapping[str, bytes | None], shelf: Shelf) -> Digest:
    """Put items into a table, leave those out that are None, and name the root; ``shelf`` gets the objects that are new.

    Equal tables are equal objects, whether patched or written whole. Raises BadPieces.
    """
    placed = {key: (place_of(key), item) for key, item in changes.items()}
    changed = _patched(nodes, place, root, placed, 0, shelf)
    return changed or write_part({}, 0, shelf)


def _patched(
    nodes: Nodes,
    place: Place,
    root: Digest,
    changes: Mapping[str, tuple[int, bytes | None]],
    level: int,
    shelf: Shelf,
) -> Digest:
    """Returns no digest for a part without items."""
    value = value_at(nodes, place, root) if root else None
    if not changes:
        return root
    if not isinstance(value, Branch):
        return _write(dict(value.items) if value is not None else {}, changes, level, shelf)
    parts: dict[int, dict[str, tuple[int, bytes | None]]] = {}
    for key, change in changes.items():
        parts.setdefault(step_of(change[0], level), {})[key] = change
    if any(item is None for _, item in changes.values()):
        left = _few(nodes, place, root, changes)
        if left is not None:
            return _write(left, changes, level, shelf)
    children = list(value.children)
    for step, mine in parts.items():
        children[step] = _patched(nodes, place, children[step], mine, level + 1, shelf)
    return write_branch(children, shelf)


def _write(
    items: Mapping[str, Item], changes: Mapping[str, tuple[int, bytes | None]], level: int, shelf: Shelf
) -> Digest:
    contents: Contents = {
        key: (place_of(key), canonical_bytes(item)) for key, item in items.items() if key not in changes
    }
    contents |= {key: (where, item) for key, (where, item) in changes.items() if item is not None}
    return write_part(contents, level, shelf) if contents else _NOTHING


def _few(
    nodes: Nodes, place: Place, root: Digest, changes: Mapping[str, tuple[int, bytes | None]]
) -> dict[str, Item] | None:
    """What a branch holds beside the changes, if with them it is no more than a leaf's."""
    added = sum(item is not None for _, item in changes.values())
    left: dict[str, Item] = {}
    for key, item in _items(nodes, place, root):
        if key not in changes:
            left[key] = item
            if len(left) + added > LEAF_LIMIT:
                return None
    return left if added <= LEAF_LIMIT else None
