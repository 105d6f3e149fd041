"""Incremental equals full, for every kind of change over long histories; any state → any state; nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.bundle import Branch, Leaf, Root, SegmentHead, Services, VirtualService
from buckler.model.ids import Digest, VmId, VmNumber, Zone
from buckler.model.label import Selector
from buckler.model.pool import Interface, Network, Outsider, ServiceAddress, ShieldMode, Vm
from buckler.model.program import Program
from buckler.policy.bundle import build_bundle
from buckler.policy.current import Current
from buckler.policy.delta import Delta
from buckler.policy.filling import fill
from buckler.policy.language import Document, FlowSpec, PolicySpec, Port
from buckler.policy.pieces import BadPieces, Item, join_segment, split_segment
from buckler.policy.pool import Numbers, Pool, outsider_from_document
from buckler.policy.timing import active
from buckler.policy.trie import Shelf, Trie
from tests.policyworld import host
from tests.randompolicy import (
    THINGS,
    Chooser,
    Drawn,
    Seeded,
    endpoint,
    flag,
    flow,
    group,
    labels,
    named_selector,
    pick,
    policy,
    service,
    wide_open,
)
from tests.randomtimes import START, exception, moment, timed

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
NETWORKS = ("net", "lan")
CHANGED_THINGS = (
    *THINGS,
    group("offices", ("198.51.100.0/24",)),
    group("anywhere", ("::/0", "203.0.113.0/24")),
    service("a-web", Selector(match_labels={"app": "b"}), Port("TCP", 22)),
    service("tiered", Selector(match_labels={"buckler.io/name": "vm1"}), Port("any")),
)


class Counting:
    """Gives numbers as the store does."""

    def __init__(self) -> None:
        self.identities: dict[str, Any] = {}
        self.cidrs: dict[str, Any] = {}
        self.rules: dict[str, Any] = {}
        self.services: dict[str, int] = {}

    def identity(self, key: str) -> Any:
        return self.identities.setdefault(key, 0x20000000 + len(self.identities))

    def cidr(self, prefix: str) -> Any:
        return self.cidrs.setdefault(prefix, 0x10000000 + len(self.cidrs))

    def rule(self, key: str) -> Any:
        return self.rules.setdefault(key, 1 + len(self.rules))

    def service(self, key: str) -> int:
        return self.services.setdefault(key, 1 + len(self.services))

    def numbers(self) -> Numbers:
        return Numbers(self.identities, self.cidrs, self.rules, self.services)


class History:
    """A pool that is changed at random, and the same pool kept change by change."""

    def __init__(self, choose: Chooser) -> None:
        self.choose, self.numbering = choose, Counting()
        self.current = Current(self.numbering)
        self.vms: dict[str, Vm] = {}
        self.networks: dict[str, Network] = {}
        self.documents: dict[str, Document] = {}
        self.written: dict[str, Document] = {}
        self.now = START
        self.hosts: tuple[Any, ...] = ()
        self.outsiders: dict[str, Outsider] = {}
        self.services: dict[str, ServiceAddress] = {}
        self.documents |= {each.key: each for each in THINGS}
        self.current.put_documents(THINGS)
        self.objects: dict[Digest, bytes] = {}

    def change(self) -> None:
        steps: tuple[Callable[[], None], ...] = (
            self.put_vm, self.put_vm, self.put_vm, self.drop_vm, self.put_document, self.put_document,
            self.drop_document, self.put_network, self.drop_network, self.put_hosts, self.put_thing, self.put_thing,
            self.put_endpoint, self.drop_endpoint, self.put_timed, self.put_exception, self.put_exception, self.tick,
            self.put_service, self.put_service, self.drop_service,
        )  # fmt: skip
        pick(self.choose, steps)()

    def put_vm(self) -> None:
        number = self.choose.number(0, 6)
        cards = tuple(self.card(number, place) for place in range(self.choose.number(0, 2)))
        vm = Vm(
            VmId(f"id{number}"), VmNumber(number + 1), f"vm{self.choose.number(0, 4)}",
            pick(self.choose, ("default", "default", "other")), f"uuid{number}",
            labels(self.choose) | ({"buckler.io/quarantine": "true"} if flag(self.choose, 6) else {}), cards,
            ShieldMode.OBSERVE if flag(self.choose, 6) else ShieldMode.ENFORCE,
        )  # fmt: skip
        self.vms[vm.id] = vm
        self.current.put_vm(vm)

    def card(self, number: int, place: int) -> Interface:
        addresses = (f"10.9.0.{10 * number + place + self.choose.number(1, 2)}",) if flag(self.choose) else ()
        own = labels(self.choose) if flag(self.choose, 4) else {}
        return Interface(f"52:54:00:09:0{place}:{number:02x}", pick(self.choose, NETWORKS), addresses, own)

    def drop_vm(self) -> None:
        if self.vms:
            vm = pick(self.choose, sorted(self.vms))
            del self.vms[vm]
            self.current.drop_vm(VmId(vm))

    def put_document(self) -> None:
        index = self.choose.number(0, 5)
        made = (policy, flow)[self.choose.number(0, 1)](self.choose, index)
        made = wide_open() if flag(self.choose, 8) else made
        self.documents[made.key] = made
        self.written[made.key] = made
        self.current.put_documents((made,))

    def put_timed(self) -> None:
        index = self.choose.number(0, 5)
        self.write(timed(self.choose, (policy, flow)[self.choose.number(0, 1)](self.choose, index)))

    def put_exception(self) -> None:
        policies = [each for each in self.written.values() if isinstance(each.spec, PolicySpec | FlowSpec)]
        if policies:
            self.write(exception(self.choose, self.choose.number(0, 2), pick(self.choose, policies)))

    def write(self, document: Document) -> None:
        self.written[document.key] = document
        self.take_time()

    def tick(self) -> None:
        """Let time pass, or go back: what begins or ends is put and dropped as a controller does."""
        self.now = moment(self.choose)
        self.take_time()

    def take_time(self) -> None:
        told = {each.key: each for each in active(self.written.values(), self.now).documents}
        gone = [key for key in self.written if key in self.documents and key not in told]
        for key in gone:
            del self.documents[key]
        self.current.drop_documents(gone)
        fresh = tuple(each for key, each in told.items() if self.documents.get(key) != each)
        self.documents |= {each.key: each for each in fresh}
        self.current.put_documents(fresh)

    def drop_document(self) -> None:
        policies = sorted(self.documents.keys() - {each.key for each in THINGS})
        if policies:
            key = pick(self.choose, policies)
            del self.documents[key]
            self.written.pop(key, None)
            self.current.drop_documents((key,))

    def put_network(self) -> None:
        name = pick(self.choose, NETWORKS)
        own = labels(self.choose) if flag(self.choose, 3) else {}
        cidrs = ("10.9.0.0/24", "fd09::/64") if flag(self.choose) else ("10.9.0.0/25",)
        gateway = ("10.9.0.1",) if flag(self.choose) else ()
        tenant = "other" if flag(self.choose, 5) else "default"
        zone = Zone(NETWORKS.index(name) + 1 + (2 if flag(self.choose, 8) else 0))
        made = Network(name, zone, tenant, f"br{name}", cidrs=cidrs, gateway=gateway, labels=own)
        self.networks[name] = made
        self.current.put_network(made)

    def drop_network(self) -> None:
        if self.networks and flag(self.choose):
            name = pick(self.choose, sorted(self.networks))
            del self.networks[name]
            self.current.drop_network(name)

    def put_hosts(self) -> None:
        self.hosts = tuple(host(f"hv{place}", f"192.0.2.{place}") for place in range(self.choose.number(0, 3)))
        self.current.put_hosts(self.hosts)

    def put_thing(self) -> None:
        """Change what a group or service is, under the policies that name it."""
        changed = pick(self.choose, CHANGED_THINGS)
        self.documents[changed.key] = changed
        self.current.put_documents((changed,))

    def put_endpoint(self) -> None:
        name = pick(self.choose, ("printer", "scanner"))
        made = outsider_from_document(endpoint(name, labels(self.choose), pick(self.choose, NETWORKS)))
        if flag(self.choose, 4):
            made = msgspec.structs.replace(made, addresses=made.addresses[:1])
        self.outsiders[name] = made
        self.current.put_outsider(made)

    def drop_endpoint(self) -> None:
        if self.outsiders:
            name = pick(self.choose, sorted(self.outsiders))
            del self.outsiders[name]
            self.current.drop_outsider("default", name)

    def put_service(self) -> None:
        name, tenant = pick(self.choose, ("shop", "mail")), "other" if flag(self.choose, 5) else "default"
        ports = ((6, 80, 80), (17, 53, 53))[: self.choose.number(1, 2)]
        address = pick(self.choose, ("10.9.0.200", "10.9.0.220", "fd09::200"))
        made = ServiceAddress(name, tenant, pick(self.choose, NETWORKS), address, named_selector(self.choose), ports)
        self.services[f"{tenant}/{name}"] = made
        self.current.put_service(made)

    def drop_service(self) -> None:
        if self.services:
            key = pick(self.choose, sorted(self.services))
            del self.services[key]
            self.current.serving.drop(key)

    def settle(self) -> Delta:
        delta = self.current.settle()
        assert not delta.fresh.keys() & self.objects.keys()
        assert delta.gone <= self.objects.keys()
        self.objects = {name: each for name, each in (self.objects | delta.fresh).items() if name not in delta.gone}
        assert self.objects == self.current.shelf.objects
        return delta

    def pool(self) -> Pool:
        networks = tuple(self.networks[name] for name in sorted(self.networks))
        vms = tuple(self.vms[name] for name in sorted(self.vms))
        outsiders = tuple(self.outsiders[name] for name in sorted(self.outsiders))
        return Pool(networks, vms, self.hosts, outsiders, tuple(self.services[key] for key in sorted(self.services)))

    def assert_equals_full(self, root: Digest) -> None:
        documents = tuple(self.documents[key] for key in sorted(self.documents))
        full = fill(self.pool(), documents, self.numbering)
        assert full.settle().root == root
        assert full.shelf.objects == self.objects
        self.assert_equals_bundle(root, documents)

    def assert_equals_bundle(self, root: Digest, documents: tuple[Document, ...]) -> None:
        """What agents put together is what the plain way builds."""
        bundle = build_bundle(self.pool(), documents, self.numbering.numbers())
        state = msgspec.json.decode(self.objects[root], type=Root)
        heads = [msgspec.json.decode(self.objects[each], type=SegmentHead) for each in state.segments]
        joined = tuple(
            join_segment(
                each, table(self.objects, each.items), table(self.objects, each.outside), served(self.objects, each)
            )
            for each in heads
        )
        assert joined == bundle.segments
        used = {each.program for segment in joined for each in segment.endpoints}
        assert {digest: msgspec.json.decode(self.objects[digest], type=Program) for digest in used} == bundle.programs
        names = {int(key[2:]): value for key, value in table(self.objects, state.rules).items()}
        assert names == {each.number: (each.policy, each.rule, each.tier) for each in bundle.rules}


def served(objects: dict[Digest, bytes], head: SegmentHead) -> tuple[VirtualService, ...]:
    return msgspec.json.decode(objects[head.services], type=Services).services if head.services else ()


def table(objects: dict[Digest, bytes], root: Digest) -> dict[str, Item]:
    """Walk a table as an agent does."""
    if objects[root].startswith(b'{"items"'):
        return dict(msgspec.json.decode(objects[root], type=Leaf).items)
    children = msgspec.json.decode(objects[root], type=Branch).children
    return {key: item for child in children if child for key, item in table(objects, child).items()}


@pytest.mark.proof
@QUICK
@given(st.data())
def test_incremental_equals_full_over_random_histories(data):
    history = History(Drawn(data.draw))
    for _ in range(history.choose.number(1, 12)):
        for _ in range(history.choose.number(1, 3)):
            history.change()
        root = history.settle().root
    history.assert_equals_full(root)


@pytest.mark.parametrize("seed", range(12))
def test_incremental_equals_full_over_long_histories(seed):
    history = History(Seeded(seed))
    for number in range(400):
        history.change()
        if number % 3 == 0:
            history.settle()
        if number % 40 == 0:
            history.assert_equals_full(history.settle().root)
    history.assert_equals_full(history.settle().root)


@QUICK
@given(st.data())
def test_any_state_to_any_other_and_back_leaves_nothing(data):
    history = History(Drawn(data.draw))
    for _ in range(12):
        history.change()
    before = history.settle().root
    kept = dict(history.objects)
    vms, networks, documents = dict(history.vms), dict(history.networks), dict(history.documents)
    hosts, outsiders, services = history.hosts, dict(history.outsiders), dict(history.services)
    for _ in range(8):
        history.change()
    history.settle()
    for key in history.documents.keys() - documents.keys():
        history.current.drop_documents((key,))
    for vm in history.vms.keys() - vms.keys():
        history.current.drop_vm(VmId(vm))
    for name in history.networks.keys() - networks.keys():
        history.current.drop_network(name)
    for name in history.outsiders.keys() - outsiders.keys():
        history.current.drop_outsider("default", name)
    for key in history.services.keys() - services.keys():
        history.current.serving.drop(key)
    for each in services.values():
        history.current.put_service(each)
    history.current.put_documents(documents.values())
    for outsider in outsiders.values():
        history.current.put_outsider(outsider)
    for vm in vms.values():
        history.current.put_vm(vm)
    for network in networks.values():
        history.current.put_network(network)
    history.current.put_hosts(hosts)
    assert history.settle().root == before
    assert history.objects == kept


def test_doing_the_same_twice_is_no_change():
    history = History(Seeded(4))
    for _ in range(30):
        history.change()
    root = history.settle().root
    for vm in history.vms.values():
        history.current.put_vm(vm)
    for document in history.documents.values():
        history.current.put_documents((document,))
    delta = history.settle()
    assert (delta.root, delta.fresh, delta.gone) == (root, {}, frozenset())


@QUICK
@given(st.data())
def test_any_segment_is_split_and_joined_again(data):
    """Also between stages, where addresses and programs differ from what identities say."""
    choose = Drawn(data.draw)
    history = History(choose)
    for _ in range(15):
        history.change()
    documents = tuple(history.documents.values())
    for document in documents:
        history.current.put_documents((document,))
    history.settle()
    bundle = build_bundle(history.pool(), documents, history.numbering.numbers())
    for segment in bundle.segments:
        digests = sorted(bundle.programs) or [Digest("none")]
        bent = msgspec.structs.replace(
            segment,
            endpoints=tuple(msgspec.structs.replace(each, program=pick(choose, digests)) for each in segment.endpoints),
            identities={name: choose.number(1, 9) for name in [*segment.identities, "10.9.0.77"] if flag(choose)},
            cidr_identities=segment.cidr_identities[:: choose.number(1, 2)],
        )
        shelf = Shelf()
        outside = Trie(shelf)
        for prefix, number in bundle.outside.items():
            outside.put(f"c:{prefix}", b"%d" % number)
        name = split_segment(bent, bundle.outside, outside.write(), shelf)
        head = msgspec.json.decode(shelf.objects[name], type=SegmentHead)
        tables = table(shelf.objects, head.items), table(shelf.objects, head.outside)
        assert join_segment(head, *tables, served(shelf.objects, head)) == bent


def test_pieces_without_a_program_make_no_segment():
    history = History(Seeded(1))
    history.current.put_network(Network("net", Zone(1), "default", "br0"))
    history.current.put_vm(
        Vm(VmId("a"), VmNumber(1), "a", "default", "u", {}, (Interface("52:54:00:00:00:01", "net"),))
    )
    delta = history.settle()
    head = msgspec.json.decode(
        history.objects[msgspec.json.decode(history.objects[delta.root], type=Root).segments[0]], type=SegmentHead
    )
    items = {key: item for key, item in table(history.objects, head.items).items() if not key.startswith("p:")}
    with pytest.raises(BadPieces):
        join_segment(head, items, {})
