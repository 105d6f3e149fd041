"""A small pool for tests, really signed: keys, issuers, manifests, objects, passports and domain XML."""

from __future__ import annotations

import datetime as dt

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from buckler.model.agentapi import Issuers
from buckler.model.bundle import Endpoint, Manifest, Member, Members, Passport, RuleName, Segment, Stage, VirtualService
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.domain import PASSPORT_NAMESPACE
from buckler.model.ids import Digest, HostId, IdentityNumber, Revision, RuleNumber, VmId, VmNumber, Zone
from buckler.model.program import Direction, Entry, Program, Verdict
from buckler.policy.bundle import Bundle
from buckler.policy.pool import link_local_address
from buckler.policy.whole import split_bundle
from buckler.ports.state import Membership, State
from buckler.trust.statement import Kind, key_text, sign

HOST = HostId("01900000-0000-7000-8000-00000000aaaa")
POOL = "shop"


def program(*ports: int) -> Program:
    """Allow TCP from and to anybody on these ports; deny the rest."""
    entries = [
        Entry(IdentityNumber(0), direction, 6, port, 32, Verdict.ALLOW, RuleNumber(1))
        for direction in Direction
        for port in ports
    ]
    return Program(tuple(sorted(entries)))


class Pool:
    """``vms`` VMs named vm-1 … on one network; every call of ``manifest`` signs a state of it."""

    def __init__(self, vms: int = 2, bridge: str = "br0") -> None:
        self.root, self.issuer = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.bridge = bridge
        self.revision = 0
        self.made: dict[Digest, bytes] = {}
        self.endpoints = tuple(self.endpoint(number, program(80)) for number in range(1, vms + 1))
        self.programs = {digest_of(canonical_bytes(one)): one for one in (program(80),)}
        self.services: tuple[VirtualService, ...] = ()

    @staticmethod
    def uuid(number: int) -> str:
        return f"{number:08d}-1111-4222-8333-000000000000"

    @staticmethod
    def mac(number: int) -> str:
        return f"52:54:00:00:00:{number:02x}"

    def endpoint(self, number: int, shield: Program, mac: str = "", address: str = "") -> Endpoint:
        return Endpoint(
            vm=VmId(f"01900000-0000-7000-8000-{number:012d}"),
            number=VmNumber(number),
            name=f"vm-{number}",
            tenant="default",
            uuid=self.uuid(number),
            mac=mac or self.mac(number),
            addresses=(address or f"10.50.0.{10 + number}", link_local_address(mac or self.mac(number))),
            identity=IdentityNumber(0x2000_0000 + number),
            program=digest_of(canonical_bytes(shield)),
        )

    def segment(self) -> Segment:
        return Segment(
            network="front",
            zone=Zone(1),
            tenant="default",
            bridge=self.bridge,
            vlan=0,
            cidrs=("10.50.0.0/24",),
            dhcp_servers=(),
            routers=(),
            gateway=(),
            endpoints=self.endpoints,
            identities={address: one.identity for one in self.endpoints for address in one.addresses},
            services=self.services,
        )

    def issuers(self) -> str:
        return sign(Kind.ISSUERS, canonical_bytes(Issuers(POOL, 1, (key_text(self.issuer.public_key()),))), self.root)

    def set_programs(self, *programs: Program) -> None:
        """Give VM n the n-th program."""
        pairs = zip(self.endpoints, programs, strict=True)
        self.programs = {digest_of(canonical_bytes(one)): one for one in programs}
        self.endpoints = tuple(
            msgspec.structs.replace(one, program=digest_of(canonical_bytes(shield))) for one, shield in pairs
        )

    def state(self) -> tuple[Digest, dict[Digest, bytes]]:
        """The root and all objects of the state as it is now."""
        rules = (RuleName(RuleNumber(1), "web", "http", "tenant"),)
        return split_bundle(Bundle((self.segment(),), self.programs, rules))

    def objects(self) -> dict[Digest, bytes]:
        """The objects of now, and all that a manifest named before."""
        self.made |= self.state()[1]
        return self.made

    def manifest(self, host: HostId = HOST, members: tuple[Member, ...] | None = None, **changes) -> str:
        self.revision += 1
        if members is None:
            members = (
                Member(host, "hv1", "", "10.99.0.1", ("10.99.0.1",)),
                Member(HostId("other"), "hv2", "", "10.99.0.2", ("10.99.0.2",)),
            )
        everybody = canonical_bytes(Members(members))
        root, objects = self.state()
        self.made |= {**objects, digest_of(everybody): everybody}
        manifest = Manifest(
            pool=POOL,
            host=host,
            host_name="hv1",
            revision=Revision(self.revision),
            stage=Stage.STEADY,
            issued_at=1.0,
            root=root,
            members=digest_of(everybody),
        )
        return sign(Kind.MANIFEST, canonical_bytes(msgspec.structs.replace(manifest, **changes)), self.issuer)

    def passport(self, number: int, macs: tuple[str, ...] = ()) -> str:
        one = next(one for one in self.endpoints if one.number == number)
        claims = Passport(POOL, one.vm, one.tenant, one.uuid, macs or (one.mac,))
        return sign(Kind.PASSPORT, canonical_bytes(claims), self.issuer)

    def join(self, state: State, url: str = "https://127.0.0.1:1", host: HostId = HOST, **changes) -> None:
        """Make the state that of a host which joined, and has the pool's newest manifest on disk."""
        state.put_membership(Membership(POOL, host, "hv1", (url,), key_text(self.root.public_key()), CERTIFICATE))
        state.put_document("issuers", self.issuers())
        manifest = self.manifest(host, **changes)
        state.put_policy({"manifest": manifest}, self.objects(), None)


def card(mac: str, device: str = "", bridge: str = "br0", kind: str = "bridge") -> str:
    """Without a ROM: one that boots from the network keeps a core busy."""
    target = f"<target dev='{device}'/>" if device else ""
    source = f"<source bridge='{bridge}'/>" if bridge else ""
    return f"<interface type='{kind}'><mac address='{mac}'/>{source}{target}<model type='virtio'/><rom enabled='no'/></interface>"


def domain(number: int, passport: str | None, *cards: str, extra: str = "") -> str:
    """A domain that boots nothing: no system runs in it, but it is a real QEMU process with real taps."""
    shown = f"<b:passport xmlns:b='{PASSPORT_NAMESPACE}'>{passport}</b:passport>" if passport else ""
    return (
        f"<domain type='qemu'><name>vm-{number}</name><uuid>{Pool.uuid(number)}</uuid><metadata>{shown}</metadata>"
        "<memory unit='MiB'>32</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
        "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>"
        f"<memballoon model='none'/>{''.join(cards)}{extra}</devices></domain>"
    )


def _certificate() -> str:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pool")])
    start = dt.datetime(2020, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(year=2100))
    return builder.sign(key, None).public_bytes(Encoding.PEM).decode()


CERTIFICATE = _certificate()
