"""The plan by touched networks is the plan of the whole: the same stages, the same states, from any states to any other."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.bundle import CidrIdentity, Endpoint, Segment
from buckler.model.ids import (
    FIRST_CIDR_IDENTITY,
    FIRST_VM_IDENTITY,
    IDENTITY_GROUP,
    IDENTITY_INFRA,
    Digest,
    IdentityNumber,
    RuleNumber,
    VmId,
    VmNumber,
    Zone,
)
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Entry, Program, Verdict
from buckler.policy import touched
from buckler.policy.bundle import Bundle, build_bundle, program_digest
from buckler.policy.lookup import Unfolding, look_up, read_program
from buckler.policy.pieces import BadPieces
from buckler.policy.pool import Pool
from buckler.policy.prefix import host_prefix
from buckler.policy.rollout import plan_rollout
from buckler.policy.touched import TreePlanner
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


class Crowd:
    """A pool whose VMs are many and alike; now and then a few of them differ, also in ways that no pool should have."""

    def __init__(self, choose: Chooser) -> None:
        self.choose, self.world = choose, World(choose)
        self.size = choose.number(1, 12)
        self.rare = pick(choose, (2, 3, 15))
        self.last: Bundle | None = None
        self.programs: dict[Digest, Program] = {}

    def state(self) -> Bundle:
        """Another one, or the last with one network bent a little more."""
        found = self.last or self.world.state()
        if self.last is None or flag(self.choose, 3):
            found = self.world.state()
            segments = tuple(map(self.crowded, found.segments))
        else:
            segments = tuple(map(self.nudged, found.segments))
        used = {each.program for segment in segments for each in segment.endpoints}
        self.programs |= found.programs
        self.last = msgspec.structs.replace(
            found, segments=segments, programs={digest: self.programs[digest] for digest in sorted(used)}
        )
        return self.last

    def nudged(self, segment: Segment) -> Segment:
        choose, crowd = self.choose, list(segment.endpoints)
        if crowd and flag(choose):
            place = choose.number(0, len(crowd) - 1)
            crowd[place] = self.bent(crowd[place], crowd)
        identities = dict(segment.identities)
        if identities and flag(choose):
            identities[pick(choose, sorted(identities))] = pick(choose, sorted({*identities.values(), IDENTITY_INFRA}))
        return msgspec.structs.replace(segment, endpoints=tuple(crowd), identities=identities)

    def crowded(self, segment: Segment) -> Segment:
        choose = self.choose
        crowd = [_another(each, place) for each in segment.endpoints for place in range(self.size)]
        crowd = [each for each in crowd if not flag(choose, 12)]
        identities = {**segment.identities, **{one: each.identity for each in crowd for one in each.addresses}}
        cidrs = {each.cidr: each.identity for each in segment.cidr_identities}
        numbers = [*{each.identity for each in crowd}, *cidrs.values(), IDENTITY_INFRA]
        for place in range(len(crowd)):
            if flag(choose, self.rare):
                crowd[place] = self.bent(crowd[place], crowd)
        for address in [each for each in identities if flag(choose, self.rare)]:
            kind = choose.number(0, 3)
            if kind < 2:
                identities[address] = pick(choose, numbers)
            else:
                cidrs[host_prefix(address)] = pick(choose, numbers)
                if kind == 2:
                    del identities[address]
        return msgspec.structs.replace(
            segment,
            endpoints=tuple(sorted(crowd, key=lambda each: each.mac)),
            identities=identities,
            cidr_identities=tuple(CidrIdentity(prefix, cidrs[prefix]) for prefix in sorted(cidrs)),
        )

    def bent(self, endpoint: Endpoint, crowd: list[Endpoint]) -> Endpoint:
        other = pick(self.choose, crowd)
        observing = ShieldMode.OBSERVE if endpoint.mode is ShieldMode.ENFORCE else ShieldMode.ENFORCE
        return pick(
            self.choose,
            (
                msgspec.structs.replace(endpoint, mode=observing),
                msgspec.structs.replace(endpoint, program=other.program),
                msgspec.structs.replace(endpoint, identity=other.identity),
                msgspec.structs.replace(endpoint, addresses=(*endpoint.addresses, *other.addresses)),
                msgspec.structs.replace(endpoint, addresses=()),
                msgspec.structs.replace(endpoint, connections=7),
            ),
        )


def _another(endpoint: Endpoint, place: int) -> Endpoint:
    """One more of the kind, with a MAC and addresses of its own."""
    if not place:
        return endpoint
    return msgspec.structs.replace(
        endpoint,
        mac=f"{endpoint.mac[:-5]}{place:02x}{endpoint.mac[-3:]}",
        vm=VmId(f"{endpoint.vm}-{place}"),
        addresses=tuple(
            f"{each}:{place:x}"
            if each.count(":") > 1 and "::" in each
            else f"10.77.{place}.{zlib.crc32(each.encode()) % 250}"
            for each in endpoint.addresses
        ),
    )


def compare(book: Book, planner: TreePlanner, in_force: list[Bundle], target: Bundle) -> list[Bundle]:
    """Both plans; returns the states of the stages."""
    whole = plan_rollout(in_force, target)
    roots = [book.put(each) for each in in_force]
    tree = planner.plan(roots, book.put(target), book.fetch)
    assert [(each.stage, each.waits_for_all) for each in tree] == [(each.stage, each.waits_for_all) for each in whole]
    for one, other in zip(tree, whole, strict=True):
        book.objects |= one.objects
        assert one.root == split_bundle(other.bundle)[0] or other is whole[-1], "equal states are equal objects"
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


@pytest.mark.parametrize("seed", range(40))
def test_who_stands_for_others_says_what_they_would(seed):
    choose = Seeded(seed)
    made, book, planner = Crowd(choose), Book(), TreePlanner()
    in_force = [made.state()]
    for _ in range(5):
        stages = compare(book, planner, in_force, target := made.state())
        in_force = [*in_force[-1:], *stages[:1]] if stages and flag(choose, 3) else [target]


@pytest.mark.parametrize("seed", range(25))
def test_one_planner_through_a_long_history(seed):
    choose = Seeded(seed)
    made, book, planner = World(choose), Book(), TreePlanner()
    in_force = [made.state()]
    for _ in range(8):
        stages = compare(book, planner, in_force, target := made.state())
        in_force = [*in_force[-1:], *stages[:1]] if stages and flag(choose, 3) else [target]


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


SERVER, CLIENT, GUEST = IdentityNumber(FIRST_VM_IDENTITY + 1), IdentityNumber(FIRST_VM_IDENTITY + 2), IDENTITY_INFRA
ANYBODY = Entry(CLIENT, Direction.INGRESS, 0, 0, 8, Verdict.ALLOW, RuleNumber(1))
LISTED = tuple(
    Entry(IdentityNumber(FIRST_CIDR_IDENTITY + place), Direction.INGRESS, 0, 0, 8, Verdict.ALLOW, RuleNumber(1))
    for place in (3, 4)
)
OPEN, SHUT = Program((*LISTED, ANYBODY)), Program(())


def _vm(place: int, identity: IdentityNumber, *addresses: str) -> Endpoint:
    program = program_digest(OPEN if identity == SERVER else SHUT)
    vm, uuid = VmId(f"vm{place}"), f"00000000-0000-4000-8000-{place:012}"
    mac = f"52:54:00:00:00:{place:02x}"
    return Endpoint(vm, VmNumber(place), vm, "default", uuid, mac, addresses, identity, program)


@pytest.mark.parametrize("why", ["nobody", "visitor", "neighbour", "outside", "own", "no address", "some have none"])
def test_who_is_hidden_behind_others_stands_for_nobody(why):
    """The last client that can be seen leaves: towards clients the server must close, or who has its address next is let in."""
    left, hidden = _vm(2, CLIENT, "10.0.0.2"), [_vm(place, CLIENT, f"10.0.0.{place}") for place in (3, 4)]
    identities, cidrs, outside = {"10.0.0.1": SERVER}, {}, {}
    more: list[Endpoint] = []
    if why == "nobody":
        hidden = []
    elif why == "visitor":
        identities |= {"10.0.0.3": GUEST, "10.0.0.4": GUEST}
    elif why == "neighbour":
        more = [_vm(5, SERVER, "10.0.0.3", "10.0.0.4")]
        identities |= {"10.0.0.3": SERVER, "10.0.0.4": SERVER}
    elif why == "no address":
        hidden = [msgspec.structs.replace(each, addresses=()) for each in hidden]
    elif why == "some have none":
        hidden[0] = msgspec.structs.replace(hidden[0], addresses=())
        identities |= {"10.0.0.4": CLIENT}
    elif why in {"outside", "own"}:
        identities |= {"10.0.0.3": CLIENT, "10.0.0.4": CLIENT}
    if why == "outside":
        outside = {f"10.0.0.{place}/32": IdentityNumber(FIRST_CIDR_IDENTITY + place) for place in (3, 4)}
    elif why == "own":
        cidrs = {f"10.0.0.{place}/32": IdentityNumber(FIRST_CIDR_IDENTITY + place) for place in (3, 4)}
    meant = {"10.0.0.255/32": IDENTITY_GROUP, **outside, **cidrs}

    def state(*clients: Endpoint) -> Bundle:
        endpoints = (_vm(1, SERVER, "10.0.0.1"), *clients, *hidden, *more)
        known = {**{one: CLIENT for each in clients for one in each.addresses}, **identities}
        entries = tuple(CidrIdentity(prefix, meant[prefix]) for prefix in sorted(meant))
        segment = Segment("lan", Zone(1), "default", "br0", 0, ("10.0.0.0/24",), (), (), (), endpoints, known, entries)
        used = {each.program for each in endpoints}
        programs = {program_digest(each): each for each in (OPEN, SHUT)}
        return Bundle((segment,), {digest: programs[digest] for digest in used}, (), outside)

    stages = compare(Book(), TreePlanner(), [state(left)], state())
    closed = {each.mac: stages[0].programs[each.program] for each in stages[0].segments[0].endpoints}
    told = look_up(closed["52:54:00:00:00:01"], CLIENT, Direction.INGRESS, 6, 80)
    assert (told is None or told.verdict is Verdict.DENY) == (why in {"nobody", "visitor", "neighbour", "no address"})
