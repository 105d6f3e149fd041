"""The tree is RFC 9162's: against one that is built from its definition, for every size, and for large ones by chance."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.ledger.tree import (
    BadProof,
    Edge,
    Hash,
    Node,
    cover,
    fold,
    folded,
    grown,
    leaf_hash,
    node_hash,
    plan_consistency,
    plan_inclusion,
    verify_consistency,
    verify_inclusion,
)

SIZES = 130


def split(count: int) -> int:
    found = 1
    while found * 2 < count:
        found *= 2
    return found


def brute_root(leaves: Sequence[Hash]) -> Hash:
    """MTH of 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    at = split(len(leaves))
    return hashlib.sha256(b"\1" + brute_root(leaves[:at]) + brute_root(leaves[at:])).digest()


def brute_path(number: int, leaves: Sequence[Hash]) -> list[Hash]:
    """PATH of 2.1.3.1."""
    if len(leaves) == 1:
        return []
    at = split(len(leaves))
    if number < at:
        return [*brute_path(number, leaves[:at]), brute_root(leaves[at:])]
    return [*brute_path(number - at, leaves[at:]), brute_root(leaves[:at])]


def brute_proof(old: int, leaves: Sequence[Hash], is_whole: bool = True) -> list[Hash]:
    """SUBPROOF of 2.1.4.1."""
    if old == len(leaves):
        return [] if is_whole else [brute_root(leaves)]
    at = split(len(leaves))
    if old <= at:
        return [*brute_proof(old, leaves[:at], is_whole), brute_root(leaves[at:])]
    return [*brute_proof(old - at, leaves[at:], False), brute_root(leaves[:at])]


class Tree:
    def __init__(self, count: int) -> None:
        self.leaves = [leaf_hash(str(number).encode()) for number in range(count)]
        self.nodes: dict[Node, Hash] = {}
        self.roots = [Edge().root]
        edge = Edge()
        for leaf in self.leaves:
            edge, made = grown(edge, leaf)
            self.nodes |= dict(made)
            self.roots.append(edge.root)

    def path(self, index: int, size: int) -> tuple[Hash, ...]:
        return folded(plan_inclusion(index, size), self.nodes)

    def proof(self, old: int, new: int) -> tuple[Hash, ...]:
        return folded(plan_consistency(old, new), self.nodes)


SMALL = Tree(SIZES)
LARGE = Tree(5000)


def test_the_known_hashes_of_the_first_trees() -> None:
    assert Edge().root.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    # Certificate Transparency's reference tree of eight leaves.
    edge = Edge()
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"):
        edge, _ = grown(edge, leaf_hash(bytes.fromhex(text)))
    assert edge.root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", range(SIZES + 1))
def test_roots_and_proofs_of_every_small_tree_are_those_of_the_definition(size: int) -> None:
    leaves, root = SMALL.leaves[:size], SMALL.roots[size]
    assert root == brute_root(leaves)
    for index in range(size):
        path = SMALL.path(index, size)
        assert list(path) == brute_path(index, leaves)
        verify_inclusion(leaves[index], index, size, path, root)
    for old in range(1, size + 1):
        proof = SMALL.proof(old, size)
        assert list(proof) == brute_proof(old, leaves)
        verify_consistency(old, size, proof, SMALL.roots[old], root)
    verify_consistency(0, size, (), SMALL.roots[0], root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 33, 64, 130])
def test_no_leaf_is_proven_in_another_place_or_by_another_path(size: int) -> None:
    chance = random.Random(size)
    for index in range(size):
        path, root, leaf = list(SMALL.path(index, size)), SMALL.roots[size], SMALL.leaves[index]
        wrong = [(leaf, other, size, path, root) for other in (index - 1, index + 1, size, -1) if other != index]
        wrong += [(leaf_hash(b"x"), index, size, path, root), (leaf, index, size, path, SMALL.roots[size - 1])]
        wrong += [(leaf, index, size, [*path, root], root)]
        if path:
            at = chance.randrange(len(path))
            wrong += [(leaf, index, size, path[:at] + path[at + 1 :], root)]
            wrong += [(leaf, index, size, [*path[:at], leaf_hash(b"y"), *path[at + 1 :]], root)]
        for each in wrong:
            with pytest.raises(BadProof):
                verify_inclusion(*each)


@pytest.mark.parametrize("new", [1, 2, 3, 7, 8, 9, 33, 64, 130])
def test_no_tree_is_proven_to_continue_one_that_it_does_not(new: int) -> None:
    other = leaf_hash(b"other")
    for old in range(1, new + 1):
        proof, then, now = list(SMALL.proof(old, new)), SMALL.roots[old], SMALL.roots[new]
        wrong = [(old, new, proof, other, now), (old, new, proof, then, other), (old, new, [*proof, other], then, now)]
        wrong += [(old, new, proof[:-1], then, now)] if proof else []
        wrong += [(old, new, [other, *proof[1:]], then, now)] if proof else []
        wrong += [(new, old, proof, now, then)] if old < new else []
        for each in wrong:
            with pytest.raises(BadProof):
                verify_consistency(*each)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_large_trees_keep_the_laws(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(LARGE.leaves)))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path, proof = LARGE.path(index, size), LARGE.proof(old, size)
    assert max(len(path), len(proof)) <= size.bit_length() + 1
    verify_inclusion(LARGE.leaves[index], index, size, path, LARGE.roots[size])
    verify_consistency(old, size, proof, LARGE.roots[old], LARGE.roots[size])
    assert fold([LARGE.nodes[node] for node in cover(0, size)]) == LARGE.roots[size]
    strange = data.draw(st.integers(1, size))
    if strange != old:
        with pytest.raises(BadProof):
            verify_consistency(strange, size, proof, LARGE.roots[old], LARGE.roots[size])


def test_appending_makes_two_nodes_on_average() -> None:
    assert len(LARGE.nodes) < 2 * len(LARGE.leaves)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 5), (5, 5)])
def test_nothing_is_planned_for_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(BadProof):
        plan_inclusion(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 5), (6, 5), (-1, 3)])
def test_no_consistency_is_planned_from_nothing_or_backwards(old: int, new: int) -> None:
    with pytest.raises(BadProof):
        plan_consistency(old, new)


def test_a_leaf_is_never_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)
