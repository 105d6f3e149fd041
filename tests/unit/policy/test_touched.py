"""The plan by touched networks is the plan of the whole: the same stages, the same states, from any states to any other."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.ids import Digest, IdentityNumber, Zone
from buckler.model.program import Direction
from buckler.policy import touched
from buckler.policy.bundle import Bundle, build_bundle
from buckler.policy.lookup import Unfolding, read_program
from buckler.policy.pieces import BadPieces, Cut, split_segment
from buckler.policy.pool import Pool
from buckler.policy.rollout import plan_rollout
from buckler.policy.touched import TreePlanner
from buckler.policy.trie import Shelf
from buckler.policy.whole import join_bundle, split_bundle
from tests.policyworld import Store
from tests.randompolicy import Chooser, Drawn, Seeded, flag, pick, virtual_services, world

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


class Book:
    """Objects by digest, and which were asked for."""

    def __init__(self) -> None:
        self.objects: dict[Digest, bytes] = {}
        self.asked: set[Digest] = set()

    def put(self, bundle: Bundle) -> Digest:
        root, objects = split_bundle(bundle)
        self.objects |= objects
        return root

    def fetch(self, wanted: frozenset[Digest]) -> dict[Digest, bytes]:
        self.asked |= wanted
        return {digest: self.objects[digest] for digest in wanted & self.objects.keys()}

    def read(self, root: Digest) -> Bundle:
        return join_bundle(root, {}, self.fetch)


class World:
    """A pool of three networks; now everything changes, now only who is in one of them."""

    def __init__(self, choose: Chooser) -> None:
        self.choose, self.store = choose, Store()
        self.documents = world(choose)
        self.pool = self.store.pool(self.documents)

    def state(self) -> Bundle:
        choose = self.choose
        if flag(choose):
            self.documents = (*world(choose), *virtual_services(choose))
            found = self.store.pool(self.documents)
            first = found.networks[0]
            lan, dmz = (
                msgspec.structs.replace(first, name=name, zone=Zone(zone), bridge=f"br{name}")
                for name, zone in (("lan", 8), ("dmz", 9))
            )
            networks = tuple(
                msgspec.structs.replace(each, bridge="other") if flag(choose, 8) else each
                for each in (*found.networks, lan, dmz)
                if not flag(choose, 8)
            )
            self.pool = Pool(networks, found.vms, found.hosts if flag(choose) else (), found.outsiders, found.services)
        vms = list(self.pool.vms)
        for place in range(len(vms)):
            if flag(choose, 4):
                name = pick(choose, (vms[place].interfaces[0].network, "lan", "dmz"))
                cards = tuple(msgspec.structs.replace(card, network=name) for card in vms[place].interfaces)
                vms[place] = msgspec.structs.replace(vms[place], interfaces=cards)
        self.pool = msgspec.structs.replace(self.pool, vms=tuple(vms))
        vms = [each for each in vms if not flag(choose, 6)]
        pool = msgspec.structs.replace(self.pool, vms=tuple(vms))
        return build_bundle(pool, self.documents, self.store.allocate(pool, self.documents))


def compare(book: Book, planner: TreePlanner, in_force: list[Bundle], target: Bundle) -> list[Bundle]:
    """Both plans; returns the states of the stages."""
    whole = plan_rollout(in_force, target)
    roots = [book.put(each) for each in in_force]
    tree = planner.plan(roots, book.put(target), book.fetch)
    assert [(each.stage, each.waits_for_all) for each in tree] == [(each.stage, each.waits_for_all) for each in whole]
    for one, other in zip(tree, whole, strict=True):
        book.objects |= one.objects
        said = book.read(one.root)
        assert (said.segments, said.programs) == (other.bundle.segments, other.bundle.programs)
        if other is not whole[-1]:
            assert said.rules == other.bundle.rules
    return [each.bundle for each in whole]


@pytest.mark.proof
@QUICK
@given(st.data())
def test_any_states_to_any_other_also_in_the_middle_of_an_older_change(data):
    choose = Drawn(data.draw)
    made, book, planner = World(choose), Book(), TreePlanner()
    in_force = [made.state()]
    for _ in range(3):
        stages = compare(book, planner, in_force, target := made.state())
        in_force = [*in_force[-2:], *stages[: choose.number(0, len(stages))]] if flag(choose) else [target]


@pytest.mark.parametrize("seed", range(25))
def test_one_planner_through_a_long_history(seed):
    choose = Seeded(seed)
    made, book, planner = World(choose), Book(), TreePlanner()
    in_force = [made.state()]
    for _ in range(8):
        stages = compare(book, planner, in_force, target := made.state())
        in_force = [*in_force[-1:], *stages[:1]] if stages and flag(choose, 3) else [target]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_that_goes_on_gives_the_objects_of_a_cut_from_nothing(seed):
    made, cut, held = World(Seeded(seed)), Cut(), dict[str, bytes]()
    for _ in range(12):
        bundle = made.state()
        for segment in bundle.segments:  # also from one network to another
            shelf, plain = Shelf(), Shelf()
            name = split_segment(segment, bundle.outside, Digest("outside"), plain)
            assert cut.split(segment, bundle.outside, Digest("outside"), shelf) == name
            held |= shelf.objects
            assert plain.objects.items() <= held.items()


def test_the_first_state_and_no_change():
    book, planner = Book(), TreePlanner()
    bundle = World(Seeded(1)).state()
    (only,) = planner.plan([], book.put(bundle), book.fetch)
    assert (only.root, only.objects) == (book.put(bundle), {})
    assert planner.plan([only.root], only.root, book.fetch) == ()


def test_an_object_that_is_missing_plans_nothing():
    book, planner = Book(), TreePlanner()
    made = World(Seeded(1))
    old, new = book.put(made.state()), book.put(made.state())
    held = dict(book.objects)
    for digest in sorted(held):
        if digest in {old, new}:
            continue
        book.objects = {name: each for name, each in held.items() if name != digest}
        with pytest.raises(BadPieces):
            planner.plan([old], new, book.fetch)
        planner = TreePlanner()


def test_a_network_that_nothing_touches_is_not_joined_or_cut_anew(monkeypatch):
    made, book, planner = World(Seeded(5)), Book(), TreePlanner()
    while len((old := made.state()).segments) < 3 or not all(each.endpoints for each in old.segments):
        pass
    first, *others = old.segments
    moved = msgspec.structs.replace(first.endpoints[0], addresses=("10.9.0.200",))
    fresh = msgspec.structs.replace(
        first, endpoints=(moved, *first.endpoints[1:]), identities={**first.identities, "10.9.0.200": moved.identity}
    )
    new = msgspec.structs.replace(old, segments=(fresh, *others))
    joined: list[str] = []
    real = touched.join_segment
    monkeypatch.setattr(touched, "join_segment", lambda head, *rest: joined.append(head.network) or real(head, *rest))
    compare(book, planner, [old], new)
    assert joined == [first.network, first.network]


@pytest.mark.parametrize("seed", range(4))
def test_a_program_read_table_by_table_is_the_program(seed):
    for program in World(Seeded(seed)).state().programs.values():
        whole, lazy = read_program(program), Unfolding(program)
        assert lazy.any == whole.any
        assert lazy.peers == whole.peers.keys()
        for side in Direction:
            for number in {IdentityNumber(7), *(peer for peer, _ in whole.peers)}:
                assert lazy.table(number, side) == whole.table(number, side)
