"""A whole state as one value ↔ its tree of objects. Resolves nothing and plans nothing."""

from __future__ import annotations

from buckler.model.bundle import Root
from buckler.model.canonical import canonical_bytes
from buckler.model.ids import Digest
from buckler.policy.bundle import Bundle
from buckler.policy.pieces import split_segment
from buckler.policy.trie import Shelf, Trie
from buckler.policy.walk import Fetch, Nodes, Place, gather, read_programs, read_root, read_rules, read_segments


def split_bundle(bundle: Bundle) -> tuple[Digest, dict[Digest, bytes]]:
    """Give a state's root and all of its objects."""
    shelf = Shelf()
    outside = Trie(shelf)
    for prefix, number in bundle.outside.items():
        outside.put(f"c:{prefix}", b"%d" % number)
    rules = Trie(shelf)
    for each in bundle.rules:
        rules.put(f"r:{each.number}", canonical_bytes((each.policy, each.rule, each.tier)))
    table = outside.write()
    heads = tuple(split_segment(each, bundle.outside, table, shelf) for each in bundle.segments)
    root = shelf.hold(canonical_bytes(Root(heads, rules.write())))
    for program in bundle.programs.values():
        shelf.hold(canonical_bytes(program))
    return root, shelf.objects


def join_bundle(root: Digest, known: Nodes, fetch: Fetch) -> Bundle:
    """Read a state back, without saying what its segments have in common. Raises BadPieces."""
    nodes = gather([(Place.ROOT, root)], known, fetch)
    top = read_root(nodes, root)
    return Bundle(tuple(read_segments(nodes, top, {}).values()), read_programs(nodes), read_rules(nodes, top))
