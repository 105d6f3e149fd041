"""From a root to all objects below it: bombs of every kind are refused, nothing is asked for twice, any state is read back."""

from __future__ import annotations

import msgspec
import pytest

from buckler.model.bundle import (
    Branch,
    Leaf,
    Root,
    SegmentHead,
    ServiceMember,
    ServicePort,
    Services,
    VirtualService,
)
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, Zone
from buckler.policy import walk
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.pieces import BadPieces, split_segment
from buckler.policy.trie import Shelf
from buckler.policy.walk import Place, gather, items_of, read_node, read_root, read_rules, read_segments
from buckler.policy.whole import join_bundle, split_bundle
from tests.policyworld import Store
from tests.randompolicy import Seeded, virtual_services, world


class Objects:
    """What a hostile controller or member may have: any content by its digest."""

    def __init__(self) -> None:
        self.held: dict[Digest, bytes] = {}
        self.asked: list[frozenset[Digest]] = []

    def put(self, value: object) -> Digest:
        content = value if isinstance(value, bytes) else canonical_bytes(value)
        digest = digest_of(content)
        self.held[digest] = content
        return digest

    def __call__(self, wanted: frozenset[Digest]) -> dict[Digest, bytes]:
        self.asked.append(wanted)
        return {digest: self.held[digest] for digest in wanted & self.held.keys()}

    def root(self, items: Digest, rules: Digest | None = None) -> Digest:
        empty = self.put(Leaf(()))
        head = SegmentHead("n", Zone(1), "t", "br0", 0, (), (), (), (), items, empty)
        return self.put(Root((self.put(head),), rules or empty))

    def join(self, root: Digest) -> Bundle:
        return join_bundle(root, {}, self)


def made(seed: int) -> Bundle:
    store, choose = Store(), Seeded(seed)
    documents = (*world(choose), *virtual_services(choose))
    pool = store.pool(documents)
    return build_bundle(pool, documents, store.allocate(pool, documents))


@pytest.mark.parametrize("seed", range(6))
def test_any_state_is_read_back_and_known_parts_are_not_asked_for_again(seed):
    bundle, other = made(seed), made(seed + 100)
    root, objects = split_bundle(bundle)
    source = Objects()
    source.held |= objects
    joined = source.join(root)
    assert (joined.segments, joined.programs, joined.rules) == (bundle.segments, bundle.programs, bundle.rules)
    asked = [digest for wave in source.asked for digest in wave]
    assert sorted(asked) == sorted(objects), "each once, and no other"
    nodes = gather([(Place.ROOT, root)], {}, source)
    source.asked.clear()
    assert gather([(Place.ROOT, root)], nodes, source) == nodes
    assert not source.asked
    after, more = split_bundle(other)
    source.held |= more
    gather([(Place.ROOT, after)], nodes, source)
    assert {digest for wave in source.asked for digest in wave} == more.keys() - objects.keys()


def test_a_part_that_stands_again_and_again_in_one_table_is_a_bomb():
    source = Objects()
    part = source.put(Leaf((("a:10.0.0.1", 1),)))
    for _ in range(8):
        part = source.put(Branch((part,) * 16))
    with pytest.raises(BadPieces, match="twice"):
        source.join(source.root(part))
    with pytest.raises(BadPieces, match="twice"):
        read_rules(nodes := gather([(Place.ROOT, root := source.root(source.put(Leaf(())), part))], {}, source),
                   read_root(nodes, root))  # fmt: skip


def test_a_key_that_two_parts_have_has_no_meaning():
    source = Objects()
    parts = [source.put(Leaf((("a:10.0.0.1", number),))) for number in (1, 2)]
    branch = source.put(Branch((*parts, *[Digest("")] * 14)))
    with pytest.raises(BadPieces, match="key"):
        source.join(source.root(branch))


def test_a_table_without_end_is_left():
    source = Objects()
    part = source.put(Leaf(()))
    for _ in range(40):
        part = source.put(Branch((part, *[Digest("")] * 15)))
    with pytest.raises(BadPieces, match="levels"):
        source.join(source.root(part))
    assert len(source.asked) < 30


def test_objects_bytes_and_items_are_counted(monkeypatch):
    source = Objects()
    root, objects = split_bundle(made(3))
    source.held |= objects
    for name, limit in (("MAX_OBJECTS", len(objects) - 1), ("MAX_BYTES", sum(map(len, objects.values())) - 1),
                        ("MAX_OBJECT", max(map(len, objects.values())) - 1), ("MAX_ITEMS", 3)):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(walk, name, limit)
            with pytest.raises(BadPieces):
                source.join(root)
    source.join(root)


def test_what_is_not_what_its_digest_or_its_place_says_is_refused():
    source = Objects()
    leaf = source.put(Leaf(()))
    for name, content in (
        ((Place.ITEMS, leaf), b'{"items":[ ]}'),
        ((Place.ITEMS, leaf), None),
        ((Place.PROGRAM, source.put(b"[" * 100_000)), b"[" * 100_000),
        ((Place.ITEMS, source.put(b'{"children":["x"]}')), b'{"children":["x"]}'),
    ):
        with pytest.raises(BadPieces):
            read_node(name, content)
    for wrong in (leaf, source.put({"segments": ["x"]}), source.put(b"nonsense"), source.put(Branch(())), Digest("")):
        with pytest.raises(BadPieces):
            source.join(wrong)
    number = source.put(Leaf((("e:52:54:00:00:00:01", 7),)))
    with pytest.raises(BadPieces):
        source.join(source.root(number))
    with pytest.raises(BadPieces):
        source.join(source.root(leaf, number))


def test_a_program_that_is_named_is_needed():
    source = Objects()
    items = source.put(Leaf((("p:5", "sha256:none"),)))
    with pytest.raises(BadPieces, match="missing"):
        source.join(source.root(items))


def test_segments_that_are_known_are_not_made_again():
    bundle = made(2)
    root, objects = split_bundle(bundle)
    nodes = gather([(Place.ROOT, root)], {}, lambda wanted: {each: objects[each] for each in wanted})
    top = read_root(nodes, root)
    first = read_segments(nodes, top, {})
    again = read_segments(nodes, top, first)
    assert all(again[digest] is segment for digest, segment in first.items())
    assert items_of(nodes, Place.RULES, top.rules)


def test_services_are_one_object_of_their_network_and_no_object_where_there_are_none():
    with_, without = ServicePort(6, 80, 80), msgspec.structs.replace(made(1).segments[0], services=())
    service = VirtualService(
        7, "shop", "default", "10.9.0.200", (with_,), (ServiceMember("10.9.0.10", "52:54:00:09:00:00"),)
    )
    shelf, plain = Shelf(), Shelf()
    split_segment(msgspec.structs.replace(without, services=(service,)), {}, Digest("o"), shelf)
    split_segment(without, {}, Digest("o"), plain)
    (more,) = [content for content in shelf.objects.values() if content.startswith(b'{"services"')]
    assert msgspec.json.decode(more, type=Services).services == (service,)
    assert all(b"services" not in content for content in plain.objects.values())


PORT, MEMBER = ServicePort(6, 80, 80), ServiceMember("10.9.0.10", "52:54:00:09:00:00")
GOOD = VirtualService(1, "shop", "default", "10.9.0.200", (PORT,), (MEMBER,))


@pytest.mark.parametrize(
    "services",
    [
        (msgspec.structs.replace(GOOD, number=0),),
        (msgspec.structs.replace(GOOD, number=1 << 24),),
        (GOOD, GOOD),
        (msgspec.structs.replace(GOOD, number=2), GOOD),
        (msgspec.structs.replace(GOOD, ports=()),),
        (msgspec.structs.replace(GOOD, ports=(PORT,) * 17),),
        (msgspec.structs.replace(GOOD, members=(MEMBER,) * 33),),
        (msgspec.structs.replace(GOOD, ports=(ServicePort(1, 0, 0),)),),
        (msgspec.structs.replace(GOOD, ports=(ServicePort(6, 81, 80),)),),
        (msgspec.structs.replace(GOOD, ports=(ServicePort(6, 80, 65536),)),),
        {"no": "services"},
    ],
)
def test_services_that_cannot_be_are_refused(services):
    source = Objects()
    told = Services(services) if isinstance(services, tuple) else services
    empty = source.put(Leaf(()))
    head = SegmentHead("n", Zone(1), "t", "br0", 0, (), (), (), (), empty, empty, services=source.put(told))
    with pytest.raises(BadPieces):
        source.join(source.put(Root((source.put(head),), empty)))
    del source.held[head.services]
    with pytest.raises(BadPieces, match="missing"):
        source.join(source.put(Root((source.put(head),), empty)))
