"""Generated pools for measuring the policy engine: label skew, tenants and rules as pools have them. Measures nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

import msgspec

from buckler.model.ids import (
    FIRST_CIDR_IDENTITY,
    FIRST_VM_IDENTITY,
    HostId,
    IdentityNumber,
    RuleNumber,
    VmId,
    VmNumber,
    Zone,
)
from buckler.model.label import Expression, Operator, Selector
from buckler.model.pool import Host, Interface, Network, Vm
from buckler.policy.language import (
    Action,
    Document,
    EgressRule,
    FlowSpec,
    IngressRule,
    Kind,
    Peer,
    PolicySpec,
    Port,
    Subject,
    Tier,
)
from buckler.policy.pool import Pool

ROLES = ("web", "app", "db", "cache", "queue")
ENVIRONMENTS = ("prod", "test")
PORTS = (22, 80, 443, 3306, 5432, 6379, 8080, 8443, 9000, 9092)
WORDS = {"description": "made", "owner": "bench", "reason": "measured", "review": "2030-01-01"}


class Size(msgspec.Struct, frozen=True):
    """How large a pool is. Each tenant has one network; ``identities`` label sets are spread over them."""

    vms: int
    rules: int
    identities: int = 2000
    hosts: int = 1000
    tenants: int = 20


class Made(msgspec.Struct, frozen=True):
    """A generated pool and its policies."""

    pool: Pool
    documents: tuple[Document, ...]
    rules: int
    label_sets: tuple[tuple[dict[str, str], ...], ...]
    """By tenant."""


class Counting:
    """Gives numbers as the store does: once, rising."""

    def __init__(self) -> None:
        self.identities: dict[str, IdentityNumber] = {}
        self.cidrs: dict[str, IdentityNumber] = {}
        self.rules: dict[str, RuleNumber] = {}
        self.services: dict[str, int] = {}

    def identity(self, key: str) -> IdentityNumber:
        return self.identities.setdefault(key, IdentityNumber(FIRST_VM_IDENTITY + len(self.identities)))

    def cidr(self, prefix: str) -> IdentityNumber:
        return self.cidrs.setdefault(prefix, IdentityNumber(FIRST_CIDR_IDENTITY + len(self.cidrs)))

    def rule(self, key: str) -> RuleNumber:
        return self.rules.setdefault(key, RuleNumber(len(self.rules) + 1))

    def service(self, key: str) -> int:
        return self.services.setdefault(key, len(self.services) + 1)


def make_pool(size: Size, seed: int = 1) -> Made:
    """Make a pool. Equal arguments make equal pools."""
    chance = random.Random(seed)
    sets = tuple(_label_sets(size, tenant) for tenant in range(size.tenants))
    networks = tuple(
        Network(f"net{tenant}", Zone(tenant + 1), f"tenant{tenant}", f"br{tenant}", cidrs=(f"10.{tenant}.0.0/16",))
        for tenant in range(size.tenants)
    )
    weights = [[1 / (place + 1) for place in range(len(each))] for each in sets]
    vms = tuple(make_vm(size, number, _chosen(sets, weights, number, size, chance)) for number in range(size.vms))
    hosts = tuple(
        Host(
            HostId(f"host{number}"),
            f"hv{number}",
            "",
            address := f"172.16.{number // 250}.{number % 250 + 1}",
            (address,),
        )
        for number in range(size.hosts)
    )
    documents = tuple(_documents(size, chance))
    count = sum(_count(each) for each in documents)
    return Made(Pool(networks, vms, hosts), documents, count, sets)


def make_vm(size: Size, number: int, labels: dict[str, str]) -> Vm:
    """Make the VM with this number; its tenant follows from it."""
    tenant, place = number % size.tenants, number // size.tenants
    address = f"10.{tenant}.{place // 250}.{place % 250 + 2}"
    mac = f"52:54:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
    return Vm(
        id=VmId(f"018f0000-0000-7000-8000-{number:012x}"),
        number=VmNumber(number + 1),
        name=f"vm{number}",
        tenant=f"tenant{tenant}",
        uuid=f"50500000-0000-4000-8000-{number:012x}",
        labels=labels,
        interfaces=(Interface(mac, f"net{tenant}", (address,)),),
    )


def _label_sets(size: Size, tenant: int) -> tuple[dict[str, str], ...]:
    each = max(1, size.identities // size.tenants)
    apps = max(1, each // (len(ROLES) * len(ENVIRONMENTS)))
    made = [
        {"app": f"app{tenant}-{app}", "role": role, "env": environment}
        for app, role, environment in product(range(apps), ROLES, ENVIRONMENTS)
    ]
    return tuple(made[:each])


def _chosen(
    sets: tuple[tuple[dict[str, str], ...], ...],
    weights: list[list[float]],
    number: int,
    size: Size,
    chance: random.Random,
) -> dict[str, str]:
    """Every label set at least once where there are enough VMs, the others by Zipf's law."""
    tenant, place = number % size.tenants, number // size.tenants
    if place < len(sets[tenant]):
        return sets[tenant][place]
    return chance.choices(sets[tenant], weights[tenant])[0]


def _documents(size: Size, chance: random.Random) -> Iterator[Document]:
    """A few rules of the pool for everyone, the rest of the tenants: by application and role, some by prefix."""
    yield _pool_wide()
    left, number = size.rules - 6, 0
    apps = max(1, size.identities // size.tenants // (len(ROLES) * len(ENVIRONMENTS)))
    while left > 0:
        tenant = number % size.tenants
        document = (
            _tenant_policy(chance, tenant, apps, number)
            if chance.random() < 0.8
            else _tenant_flow(chance, tenant, apps, number)
        )
        left -= _count(document)
        number += 1
        yield document


def _count(document: Document) -> int:
    spec = document.spec
    return len(spec.ingress) + len(spec.egress) if isinstance(spec, PolicySpec) else 2


def _pool_wide() -> Document:
    scanner, anyone = Peer(vm=Selector(match_labels={"role": "scanner"})), Peer(any=True)
    spec = PolicySpec(
        **WORDS,
        tier=Tier.SECURITY,
        order=10,
        ingress=(
            IngressRule(name="no-telnet", action=Action.DENY, ports=(Port("TCP", 23),)),
            IngressRule(name="no-smb", action=Action.DENY, peers=(Peer(world=True),), ports=(Port("TCP", 445),)),
            IngressRule(name="scanner", action=Action.ALLOW, peers=(scanner,)),
        ),
        egress=(
            EgressRule(name="no-smtp", action=Action.DENY, peers=(Peer(world=True),), ports=(Port("TCP", 25),)),
            EgressRule(name="dns", action=Action.ALLOW, peers=(Peer(host=True),), ports=(Port("UDP", 53),)),
            EgressRule(name="ping", action=Action.ALLOW, peers=(anyone,), ports=(Port("ICMP", type=8),)),
        ),
    )
    return Document(Kind.POLICY, "pool-wide", spec)


def _selector(chance: random.Random, tenant: int, apps: int) -> Subject:
    app = f"app{tenant}-{min(int(chance.paretovariate(1.1)) - 1, apps - 1)}"
    role = chance.choice(ROLES)
    if chance.random() < 0.1:
        return Subject(match_labels={"app": app}, match_expressions=(Expression("env", Operator.NOT_IN, ("test",)),))
    return Subject(match_labels={"app": app, "role": role})


def _peers(chance: random.Random, tenant: int, apps: int) -> tuple[Peer, ...]:
    if chance.random() < 0.05:
        return (Peer(cidr=f"198.{chance.randrange(18, 20)}.{chance.randrange(256)}.0/24"),)
    if chance.random() < 0.05:
        return (Peer(world=True),)
    return (Peer(vm=_selector(chance, tenant, apps)),)


def _ports(chance: random.Random) -> tuple[Port, ...]:
    if chance.random() < 0.1:
        return (Port("TCP", 30000, 30000 + chance.randrange(1, 2000)),)
    return tuple(Port("TCP", port) for port in chance.sample(PORTS, chance.choice((1, 1, 1, 2))))


def _tenant_policy(chance: random.Random, tenant: int, apps: int, number: int) -> Document:
    ingress = tuple(
        IngressRule(name=f"in{place}", action=Action.ALLOW, peers=_peers(chance, tenant, apps), ports=_ports(chance))
        for place in range(chance.randrange(1, 4))
    )
    egress = tuple(
        EgressRule(name=f"out{place}", action=Action.ALLOW, peers=_peers(chance, tenant, apps), ports=_ports(chance))
        for place in range(chance.randrange(3))
    )
    spec = PolicySpec(**WORDS, subject=_selector(chance, tenant, apps), ingress=ingress, egress=egress)
    return Document(Kind.POLICY, f"policy{number}", spec, f"tenant{tenant}")


def _tenant_flow(chance: random.Random, tenant: int, apps: int, number: int) -> Document:
    spec = FlowSpec(
        **WORDS,
        sources=(Peer(vm=_selector(chance, tenant, apps)),),
        destinations=(Peer(vm=_selector(chance, tenant, apps)),),
        ports=_ports(chance),
    )
    return Document(Kind.FLOW, f"flow{number}", spec, f"tenant{tenant}")
