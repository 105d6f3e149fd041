"""Random pools, policies and packets, from a seeded generator or from Hypothesis (then they shrink)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from hypothesis import strategies as st

from buckler.model.label import LABEL_ID, LABEL_NAME, Expression, Operator, Selector
from buckler.model.pool import ShieldMode
from buckler.policy.language import (
    Action,
    AddressGroupSpec,
    Document,
    EgressRule,
    EndpointSpec,
    FlowSpec,
    IngressRule,
    InterfaceSpec,
    Kind,
    NetworkSpec,
    Peer,
    PolicyMode,
    PolicySpec,
    Port,
    RateLimitSpec,
    ServiceSpec,
    Stand,
    Subject,
    Tier,
    VmSpec,
)
from buckler.policy.packet import Packet

T = TypeVar("T")

KEYS = ("app", "tier")
VALUES = ("a", "b", "c")
PORT_NUMBERS = (0, 1, 22, 79, 80, 81, 443, 1024, 5432, 8080, 65534, 65535)
ICMP_TYPES = (0, 3, 8, 128, 129)
CIDRS = (
    "203.0.113.0/24",
    "203.0.113.128/25",
    "203.0.113.7/32",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "::/0",
)
OUTSIDE = ("203.0.113.7", "203.0.113.9", "203.0.113.200", "198.51.100.1", "2001:db8:1::1", "2001:db8:2::1", "fd99::1")
GATEWAYS = ("10.9.0.1", "fd09::1")
HOSTS = ("192.0.2.1", "2001:db8:ffff::1")
PROTOCOLS = (6, 17, 132, 1, 58, 47)


class Chooser(Protocol):
    def number(self, low: int, high: int) -> int: ...


class Seeded:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)


class Drawn:
    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def number(self, low: int, high: int) -> int:
        return int(self._draw(st.integers(low, high)))


def pick(choose: Chooser, items: Sequence[T]) -> T:
    return items[choose.number(0, len(items) - 1)]


def flag(choose: Chooser, one_in: int = 2) -> bool:
    return choose.number(0, one_in - 1) == one_in - 1


def several(choose: Chooser, low: int, high: int, make: Any) -> tuple[Any, ...]:
    return tuple(make(choose) for _ in range(choose.number(low, high)))


def vm(index: int, labels: dict[str, str], network: str = "net") -> Document:
    spec = VmSpec(
        uuid=f"50500000-0000-4000-8000-0000000000{index:02x}",
        interfaces=(
            InterfaceSpec(
                mac=f"52:54:00:09:00:{index:02x}",
                network=network,
                addresses=(f"10.9.0.{index + 10}", f"fd09::{index + 10:x}"),
            ),
        ),
    )
    return Document(Kind.VM, f"vm{index}", spec, "default", labels)


def network() -> Document:
    spec = NetworkSpec(bridge="br0", cidrs=("10.9.0.0/24", "fd09::/64"), gateway=GATEWAYS)
    return Document(Kind.NETWORK, "net", spec)


def labels(choose: Chooser) -> dict[str, str]:
    return {key: pick(choose, VALUES) for key in KEYS if flag(choose)}


def selector(choose: Chooser) -> Selector:
    kind = choose.number(0, 5)
    if kind == 0:
        return Selector()
    if kind <= 3:
        return Selector(match_labels={pick(choose, KEYS): pick(choose, VALUES)})
    operator = pick(choose, tuple(Operator))
    values = several(choose, 1, 2, lambda c: pick(c, VALUES)) if operator in {Operator.IN, Operator.NOT_IN} else ()
    return Selector(match_expressions=(Expression(pick(choose, KEYS), operator, values),))


def named_selector(choose: Chooser) -> Selector:
    """Now and then one that asks for VMs by name or id, in every way that it can."""
    if not flag(choose, 10):
        return selector(choose)
    names = several(choose, 1, 2, lambda c: f"vm{c.number(0, 3)}")
    key, values = (LABEL_NAME, names) if flag(choose) else (LABEL_ID, tuple(f"vm-default-{each}" for each in names))
    operator = pick(choose, (Operator.IN, Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST))
    asks = operator in {Operator.IN, Operator.NOT_IN}
    return Selector(match_expressions=(Expression(key, operator, values if asks else ()),))


def cidr_peer(choose: Chooser) -> Peer:
    inside = {"203.0.113.0/24": ("203.0.113.128/25", "203.0.113.7/32"), "0.0.0.0/0": ("203.0.113.0/24",)}
    inside |= {"2001:db8::/32": ("2001:db8:1::/48",), "::/0": ("2001:db8::/32",)}
    cidr = pick(choose, CIDRS)
    return Peer(cidr=cidr, excluded=inside.get(cidr, ())[:1] if flag(choose, 3) else ())


def group(name: str, cidrs: tuple[str, ...], excluded: tuple[str, ...] = ()) -> Document:
    return Document(Kind.ADDRESS_GROUP, name, AddressGroupSpec(cidrs, excluded))


def service(name: str, selector_: Selector, *ports: Port) -> Document:
    return Document(Kind.SERVICE, name, ServiceSpec(selector_, ports))


THINGS = (
    group("offices", ("203.0.113.0/24", "2001:db8::/32"), ("203.0.113.128/25", "2001:db8:1::/48")),
    group("anywhere", ("0.0.0.0/0", "::/0", "203.0.113.7/32"), ("203.0.113.0/24",)),
    service("a-web", Selector(match_labels={"app": "a"}), Port("TCP", 80, 81), Port("UDP", 443)),
    service("tiered", Selector(match_expressions=(Expression("tier", Operator.EXISTS),)), Port("any")),
)
"""Groups and services that policies may name: those with whatever labels the VMs have."""
GROUPS, SERVICES = ("offices", "anywhere"), ("a-web", "tiered")
ENDPOINTS = {"10.9.0.201": "printer", "fd09::c9": "printer", "10.9.0.99": "scanner", "fd09::99": "scanner"}


def endpoint(name: str, labels_: dict[str, str], network_: str = "net") -> Document:
    """A thing that is no VM. Where ``scanner`` is, a VM may be in another state."""
    addresses = tuple(address for address, whose in ENDPOINTS.items() if whose == name)
    return Document(Kind.ENDPOINT, name, EndpointSpec(network_, addresses), "default", labels_)


def endpoints(choose: Chooser) -> tuple[Document, ...]:
    return tuple(endpoint(name, labels(choose)) for name in ("printer", "scanner") if flag(choose, 3))


def peer(choose: Chooser) -> Peer:
    kind = choose.number(0, 9)
    if flag(choose, 8):
        return Peer(addresses=pick(choose, GROUPS))
    if kind <= 3:
        return Peer(vm=named_selector(choose))
    if kind <= 5:
        return cidr_peer(choose)
    return (Peer(world=True), Peer(host=True), Peer(group=True), Peer(any=True))[kind - 6]


def port(choose: Chooser) -> Port:
    kind = choose.number(0, 5)
    if kind == 0:
        return Port(protocol=pick(choose, ("any", "TCP", "UDP", "SCTP", "ICMP", "ICMPv6")))
    if kind <= 3:
        low, high = sorted((pick(choose, PORT_NUMBERS), pick(choose, PORT_NUMBERS)))
        return Port(protocol=pick(choose, ("TCP", "UDP", "SCTP")), port=low, end_port=high if flag(choose) else None)
    code = choose.number(0, 1) if flag(choose) else None
    return Port(protocol=pick(choose, ("ICMP", "ICMPv6")), type=pick(choose, ICMP_TYPES), code=code)


def action(choose: Chooser, tier: Tier) -> Action:
    return pick(
        choose,
        (Action.DENY, Action.PASS, Action.REJECT)
        if tier is Tier.PLATFORM
        else (Action.ALLOW, Action.DENY, Action.PASS, Action.ALLOW, Action.ALLOW, Action.REJECT),
    )


def policy(choose: Chooser, index: int) -> Document:
    tier = pick(choose, tuple(Tier))
    rules = [
        {
            "name": f"r{number}",
            "action": action(choose, tier),
            "overridable": flag(choose, 4),
            "peers": several(choose, 0, 2, peer),
            "ports": several(choose, 0, 2, port),
            **terms(choose),
        }
        for number in range(choose.number(1, 4))
    ]
    cut = choose.number(0, len(rules))
    for rule in rules[cut:]:
        if flag(choose, 6):
            rule |= {"service": pick(choose, SERVICES), "peers": (), "ports": ()}
    head = _head(choose, tier)
    subject = subject_at(choose, tier)
    if subject.stand is not Stand.VM:
        make = far_peers(subject.stand)
        rules = [{**rule, "service": "", "peers": several(choose, 0, 2, make)} for rule in rules]
    spec = PolicySpec(
        **head,
        subject=subject,
        ingress=tuple(IngressRule(**rule) for rule in rules[:cut]),
        egress=tuple(EgressRule(**rule) for rule in rules[cut:]),
    )
    return Document(Kind.POLICY, f"p{index}", spec)


def subject_at(choose: Chooser, tier: Tier) -> Subject:
    """Now and then the host or the edge, in the pool's own tiers."""
    if tier in {Tier.TENANT, Tier.QUARANTINE} or not flag(choose, 4):
        chosen = named_selector(choose)
        return Subject(chosen.match_labels, chosen.match_expressions)
    return Subject(host=True) if flag(choose) else Subject(edge=True)


def far_peers(stand: Stand) -> Any:
    """Make peers that such an end is asked about."""
    if stand is Stand.HOST:
        return lambda choose: Peer(any=True) if flag(choose, 5) else Peer(vm=named_selector(choose))
    kinds = (cidr_peer, cidr_peer, lambda _: Peer(world=True), lambda choose: Peer(addresses=pick(choose, GROUPS)))
    return lambda choose: pick(choose, (*kinds, lambda _: Peer(any=True)))(choose)


def flow(choose: Chooser, index: int) -> Document:
    tier = pick(choose, tuple(Tier))
    named = flag(choose, 6)
    spec = FlowSpec(
        **_head(choose, tier),
        sources=several(choose, 1, 2, peer),
        destinations=() if named else several(choose, 1, 2, peer),
        service=pick(choose, SERVICES) if named else "",
        action=action(choose, tier),
        overridable=flag(choose, 4),
        ports=() if named else several(choose, 0, 2, port),
        **terms(choose),
    )
    return Document(Kind.FLOW, f"f{index}", spec)


def _head(choose: Chooser, tier: Tier) -> dict[str, Any]:
    words = {"description": "d", "owner": "o", "reason": "r", "review": "2030-01-01"}
    mode = pick(choose, (*[PolicyMode.ENFORCE] * 8, PolicyMode.OBSERVE, PolicyMode.STAGED))
    return {**words, "tier": tier, "order": choose.number(0, 2), "mode": mode}


def terms(choose: Chooser) -> dict[str, Any]:
    rate = RateLimitSpec(choose.number(1, 3), choose.number(1, 3)) if flag(choose, 6) else None
    return {"log": flag(choose, 5), "rate_limit": rate}


def policies(choose: Chooser, high: int = 6) -> tuple[Document, ...]:
    """Random ones, and often one at the bottom that opens everything that nothing above closes."""
    count = choose.number(0, high)
    made = tuple(policy(choose, i) if choose.number(0, 2) else flow(choose, i) for i in range(count))
    return (*made, *THINGS, wide_open()) if choose.number(0, 2) else (*made, *THINGS)


def wide_open() -> Document:
    words = {"description": "d", "owner": "o", "reason": "r", "review": "2030-01-01", "tier": Tier.BASELINE}
    everyone = (Peer(any=True), Peer(group=True))
    spec = PolicySpec(
        **words,
        order=9,
        ingress=(IngressRule(name="all", action=Action.ALLOW, peers=everyone),),
        egress=(EgressRule(name="all", action=Action.ALLOW, peers=everyone),),
    )
    return Document(Kind.POLICY, "wide-open", spec)


def world(choose: Chooser, vms: int = 4) -> tuple[Document, ...]:
    """One network with VMs, endpoints and policies."""
    made = tuple(vm(index, labels(choose)) for index in range(choose.number(1, vms)))
    return (network(), *made, *endpoints(choose), *policies(choose))


VIRTUAL = {"shop": "10.9.0.200", "mail": "fd09::200"}


def virtual_services(choose: Chooser) -> tuple[Document, ...]:
    """Services with a virtual address, for whatever labels the VMs have."""
    found = []
    for name, address in VIRTUAL.items():
        ports = several(choose, 1, 2, lambda c: Port(pick(c, ("TCP", "UDP", "SCTP")), pick(c, PORT_NUMBERS)))
        if flag(choose):
            spec = ServiceSpec(named_selector(choose), ports, network="net", virtual_address=address)
            found.append(Document(Kind.SERVICE, name, spec))
    return tuple(found)


def packet(choose: Chooser, documents: Sequence[Document]) -> Packet:
    """A packet from or to some VM, both ends of one family."""
    version = choose.number(0, 1)
    mine = [each.spec.interfaces[0].addresses[version] for each in documents if isinstance(each.spec, VmSpec)]
    others = mine + [each for each in (*OUTSIDE, *GATEWAYS, *HOSTS, *ENDPOINTS) if (":" in each) == bool(version)]
    one, other = pick(choose, mine), pick(choose, others)
    source, destination = (one, other) if flag(choose) else (other, one)
    protocol = pick(choose, PROTOCOLS)
    return Packet("net", source, destination, protocol, number_for(choose, protocol))


def number_for(choose: Chooser, protocol: int) -> int:
    if protocol in {6, 17, 132}:
        return pick(choose, PORT_NUMBERS)
    return (pick(choose, ICMP_TYPES) << 8) | choose.number(0, 2) if protocol in {1, 58} else 0


def observing(document: Document) -> Document:
    """Give a VM the mode in which its shield only observes; leave everything else as it is."""
    if not isinstance(document.spec, VmSpec):
        return document
    spec = msgspec.structs.replace(document.spec, mode=ShieldMode.OBSERVE)
    return msgspec.structs.replace(document, spec=spec)


def unrated(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Take the rate limits out: a firewall that knows none is to permit nothing that has one."""
    found = []
    for document in documents:
        spec = document.spec
        if isinstance(spec, FlowSpec):
            spec = msgspec.structs.replace(spec, rate_limit=None)
        elif isinstance(spec, PolicySpec):
            sides = {
                side: tuple(msgspec.structs.replace(rule, rate_limit=None) for rule in getattr(spec, side))
                for side in ("ingress", "egress")
            }
            spec = msgspec.structs.replace(spec, **sides)
        found.append(msgspec.structs.replace(document, spec=spec))
    return tuple(found)
