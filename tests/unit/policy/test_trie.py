"""A table in small objects: equal tables are equal objects, whatever happened before; one change is a few of them."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.model.canonical import digest_of
from buckler.policy.trie import LEAF_LIMIT, Shelf, Trie

STEPS = st.lists(st.tuples(st.integers(0, 300), st.integers(-1, 3)), max_size=600)


def filled(items: dict[str, bytes]) -> tuple[str, Shelf]:
    shelf = Shelf()
    trie = Trie(shelf)
    for key, item in items.items():
        trie.put(key, item)
    return trie.write(), shelf


def read(root: str, objects: dict[str, bytes]) -> dict[str, object]:
    """Walk from the root as an agent does."""
    value = json.loads(objects[root])
    if "items" in value:
        assert len(value["items"]) <= LEAF_LIMIT
        return dict(value["items"])
    return {key: item for child in value["children"] if child for key, item in read(child, objects).items()}


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_what_is_written_follows_from_the_items_alone(steps):
    shelf = Shelf()
    trie, items, seen = Trie(shelf), {}, {}
    for number, (place, value) in enumerate(steps):
        key = f"k{place}"
        if value < 0:
            trie.drop(key)
            items.pop(key, None)
        else:
            trie.put(key, b"%d" % value)
            items[key] = b"%d" % value
        if number % 50 == 0:
            trie.write()
            fresh, gone = shelf.turn()
            seen = {digest: each for digest, each in {**seen, **fresh}.items() if digest not in gone}
            assert seen == shelf.objects
    root, other = filled(items)
    assert trie.write() == root
    assert shelf.objects == other.objects
    assert all(digest == digest_of(content) for digest, content in shelf.objects.items())
    assert read(root, shelf.objects) == {key: json.loads(item) for key, item in items.items()}


def test_one_change_is_a_few_objects():
    shelf = Shelf()
    trie = Trie(shelf)
    for number in range(20_000):
        trie.put(f"k{number}", b'"%s"' % (b"x" * 200))
    trie.write()
    shelf.turn()
    trie.put("k77", b'"y"')
    trie.write()
    fresh, gone = shelf.turn()
    assert len(fresh) == len(gone) <= 6
    assert sum(map(len, fresh.values())) < 15_000


def test_a_change_and_its_revert_leave_nothing():
    shelf = Shelf()
    trie = Trie(shelf)
    for number in range(LEAF_LIMIT):
        trie.put(f"k{number}", b"1")
    before = trie.write()
    shelf.turn()
    trie.put("one-more", b"1")
    trie.write()
    trie.drop("one-more")
    assert trie.write() == before
    assert shelf.turn() == ({}, frozenset())


def test_a_cleared_table_holds_no_object():
    shelf = Shelf()
    trie = Trie(shelf)
    for number in range(100):
        trie.put(f"k{number}", b"1")
    trie.write()
    trie.clear()
    assert not shelf.objects
