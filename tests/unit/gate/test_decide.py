"""The gate's answers, asked with real signatures over real domain XML."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.gate.decide import PoolView, decide
from buckler.gate.decision import Operation, Standing
from buckler.gate.domain import BadDomain, parse_domain
from buckler.model.bundle import Endpoint, Passport, Segment
from buckler.model.canonical import canonical_bytes
from buckler.model.domain import PASSPORT_NAMESPACE
from buckler.model.ids import Digest, IdentityNumber, VmId, VmNumber, Zone
from buckler.trust.statement import Kind, key_id, sign

ISSUER = Ed25519PrivateKey.generate()
KEYS = {key_id(ISSUER.public_key()): ISSUER.public_key()}
UUID = "00000001-1111-4222-8333-000000000000"
VM = VmId("01900000-0000-7000-8000-000000000001")
MAC = "52:54:00:00:00:01"
PASSPORT = Passport(pool="shop", vm=VM, tenant="default", uuid=UUID, macs=(MAC,))
ENDPOINT = Endpoint(
    vm=VM, number=VmNumber(1), name="web-1", tenant="default", uuid=UUID, mac=MAC, addresses=("10.50.0.11",),
    identity=IdentityNumber(0x2000_0001), program=Digest("sha256:" + "0" * 64),
)  # fmt: skip
SEGMENT = Segment(
    network="front", zone=Zone(1), tenant="default", bridge="br0", vlan=0, cidrs=("10.50.0.0/24",), dhcp_servers=(),
    routers=(), gateway=(), endpoints=(ENDPOINT,), identities={"10.50.0.11": IdentityNumber(0x2000_0001)},
)  # fmt: skip
VIEW = PoolView(pool="shop", keys=KEYS, segments=(SEGMENT,), has_policy=True)
NIC = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='br0'/><target dev='vnet0'/></interface>"


def statement(passport: Passport = PASSPORT, key: Ed25519PrivateKey = ISSUER, kind: Kind = Kind.PASSPORT) -> str:
    return sign(kind, canonical_bytes(passport), key)


def domain_xml(devices: str = NIC, passport: str | None = "own", extra: str = "", uuid: str = UUID) -> str:
    text = statement() if passport == "own" else passport
    element = f"<b:passport xmlns:b='{PASSPORT_NAMESPACE}'>\n  {text}\n </b:passport>" if text else ""
    return (
        f"<domain type='qemu' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web-1</name>"
        f"<uuid>{uuid}</uuid><metadata>{element}</metadata><devices>{devices}</devices>{extra}</domain>"
    )


def judge(xml: str, operation: Operation = Operation.START, view: PoolView = VIEW):
    return decide(operation, parse_domain(xml), view)


def test_a_registered_vm_starts_and_its_tap_may_open():
    decision = judge(domain_xml())
    assert (decision.allowed, decision.standing, decision.vm, decision.reasons) == (True, Standing.REGISTERED, VM, ())
    assert [(plan.endpoint, plan.zone, plan.device) for plan in decision.interfaces] == [(ENDPOINT, Zone(1), "vnet0")]


def test_a_domain_that_nobody_registered_may_start_but_stays_closed():
    decision = judge(domain_xml(passport=None, uuid=UUID.replace("1111", "2222")))
    assert decision.allowed
    assert decision.standing is Standing.ROGUE
    assert [plan.endpoint for plan in decision.interfaces] == [None]


def test_a_known_domain_without_its_passport_stays_closed_until_it_is_written():
    decision = judge(domain_xml(passport=None))
    assert (decision.allowed, decision.standing, decision.vm) == (True, Standing.PENDING, VM)
    assert [plan.endpoint for plan in decision.interfaces] == [None]


def test_without_policy_a_passport_alone_opens_nothing():
    decision = judge(domain_xml(), view=PoolView(pool="shop", keys=KEYS))
    assert (decision.allowed, decision.standing) == (True, Standing.PENDING)
    assert [plan.endpoint for plan in decision.interfaces] == [None]


FORGERIES = {
    "another key": statement(key=Ed25519PrivateKey.generate()),
    "another kind of statement": statement(kind=Kind.TASK),
    "another pool": statement(msgspec.structs.replace(PASSPORT, pool="bank")),
    "another domain's": statement(msgspec.structs.replace(PASSPORT, uuid=UUID.replace("1111", "9999"))),
    "cut short": statement()[:-4],
    "no statement at all": "let me in",
    "another VM's id": statement(msgspec.structs.replace(PASSPORT, vm=VmId("01900000-0000-7000-8000-000000000009"))),
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("operation", [Operation.START, Operation.RESTORE, Operation.MIGRATE])
def test_a_passport_that_is_not_its_own_refuses_the_start(text: str, operation: Operation):
    decision = judge(domain_xml(passport=text), operation)
    assert not decision.allowed
    assert decision.standing is Standing.TWIN
    assert decision.reasons[0].hint
    assert all(plan.endpoint is None for plan in decision.interfaces)


def test_a_card_that_the_passport_does_not_name_makes_a_twin():
    other = NIC.replace(MAC, "52:54:00:00:00:99")
    assert judge(domain_xml(NIC + other)).standing is Standing.TWIN


def test_a_card_that_is_unplugged_does_not():
    assert judge(domain_xml("")).standing is Standing.REGISTERED


def test_a_card_that_the_manifest_gave_since_does_not():
    second = msgspec.structs.replace(ENDPOINT, mac="52:54:00:00:00:99", addresses=("10.50.0.99",))
    view = msgspec.structs.replace(VIEW, segments=(msgspec.structs.replace(SEGMENT, endpoints=(ENDPOINT, second)),))
    decision = judge(domain_xml(NIC + NIC.replace(MAC, "52:54:00:00:00:99").replace("vnet0", "vnet1")), view=view)
    assert [plan.endpoint for plan in decision.interfaces] == [ENDPOINT, second]


UNCOVERED = {
    kind: f"<interface type='{kind}'><mac address='{MAC}'/><source bridge='br0' dev='eth0'/><target dev='t0'/></interface>"
    for kind in (
        "user",
        "direct",
        "hostdev",
        "vhostuser",
        "vdpa",
        "udp",
        "mcast",
        "client",
        "server",
        "ethernet",
        "",
        "new",
    )
} | {
    "openvswitch": NIC.replace("<target", "<virtualport type='openvswitch'/><target"),
    "network without bridge": NIC.replace("type='bridge'", "type='network'").replace("bridge='br0'", "network='x'"),
}
BESIDE = {
    "shmem": "<shmem name='a'/>",
    "filesystem": "<filesystem type='mount'/>",
    "vsock": "<vsock model='virtio'/>",
    "hostdev": "<hostdev mode='subsystem' type='pci'/>",
    "shareable": "<disk type='file'><source file='/a'/><target dev='vdb'/><shareable/></disk>",
    "nvdimm": "<memory model='nvdimm'/>",
    "serial": "<serial type='tcp'/>",
    "redirdev": "<redirdev bus='usb' type='tcp'/>",
    "rng": "<rng model='virtio'><backend model='egd' type='udp'/></rng>",
}


@pytest.mark.parametrize("passport", ["own", None], ids=["registered", "unregistered"])
@pytest.mark.parametrize("device", UNCOVERED.values(), ids=UNCOVERED)
def test_an_interface_that_no_shield_covers_refuses_the_start(device: str, passport: str | None):
    decision = judge(domain_xml(device, passport))
    assert not decision.allowed
    assert any("no shield covers" in str(reason) or "no Linux bridge" in str(reason) for reason in decision.reasons)


@pytest.mark.parametrize("passport", ["own", None], ids=["registered", "unregistered"])
@pytest.mark.parametrize("device", BESIDE.values(), ids=BESIDE)
def test_a_channel_beside_the_network_refuses_the_start(device: str, passport: str | None):
    decision = judge(domain_xml(NIC + device, passport))
    assert not decision.allowed
    assert all(reason.hint for reason in decision.reasons)


@pytest.mark.parametrize("word", ["commandline", "override", "capabilities", "anything"])
def test_own_arguments_for_qemu_refuse_the_start(word: str):
    assert not judge(domain_xml(extra=f"<qemu:{word}/>")).allowed


def test_before_libvirt_has_chosen_the_bridge_of_a_network_nothing_is_refused_for_it():
    xml = domain_xml(f"<interface type='network'><mac address='{MAC}'/><source network='default'/></interface>")
    assert judge(xml, Operation.PREPARE).allowed
    assert judge(xml, Operation.MIGRATE).allowed
    assert not judge(xml, Operation.START).allowed


@pytest.mark.parametrize("operation", [Operation.START, Operation.RESTORE, Operation.MIGRATE, Operation.PREPARE])
def test_a_draining_host_takes_no_vm(operation: Operation):
    decision = judge(domain_xml(), operation, msgspec.structs.replace(VIEW, draining=True))
    assert not decision.allowed
    assert "drained" in str(decision.reasons[0])


def test_a_draining_host_still_judges_a_card_plugged_into_what_runs():
    assert judge(domain_xml(), Operation.PLUG, msgspec.structs.replace(VIEW, draining=True)).allowed


def test_a_network_of_another_tenant_keeps_the_tap_closed():
    view = msgspec.structs.replace(VIEW, segments=(msgspec.structs.replace(SEGMENT, tenant="rival"),))
    decision = judge(domain_xml(), view=view)
    assert decision.allowed
    assert [plan.endpoint for plan in decision.interfaces] == [None]
    assert "another tenant" in decision.interfaces[0].reason


def test_a_card_on_another_bridge_than_its_network_stays_closed():
    decision = judge(domain_xml(NIC.replace("br0", "br9")))
    assert [plan.endpoint for plan in decision.interfaces] == [None]


def test_everything_that_speaks_against_it_is_said_at_once():
    xml = domain_xml(UNCOVERED["user"] + BESIDE["vsock"], FORGERIES["cut short"], "<qemu:commandline/>")
    assert len(judge(xml).reasons) == 4


BAD = {
    "no XML": "gibberish",
    "another root": "<network/>",
    "no uuid": "<domain><name>x</name></domain>",
    "an entity": "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><name>&a;</name></domain>",
    "a billion laughs": "<!DOCTYPE d [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><domain>&b;</domain>",
    "a bad MAC": domain_xml(NIC.replace(MAC, "52:54:00")),
    "two passports": domain_xml().replace("<metadata>", f"<metadata><p xmlns='{PASSPORT_NAMESPACE}'/><passport xmlns='{PASSPORT_NAMESPACE}'>x</passport>"),
    "too long": domain_xml(extra=" " * (4 * 1024 * 1024)),
    "too many cards": domain_xml(NIC * 257),
}  # fmt: skip


@pytest.mark.parametrize("xml", BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_no_domain(xml: str):
    with pytest.raises(BadDomain):
        parse_domain(xml)


def test_a_foreign_card_plugged_into_a_running_vm_stays_closed_and_leaves_the_others_open():
    plugged = NIC.replace(MAC, "52:54:00:00:00:99").replace("vnet0", "vnet1")
    decision = judge(domain_xml(NIC + plugged), Operation.PLUG)
    assert decision.standing is Standing.REGISTERED
    assert [plan.endpoint for plan in decision.interfaces] == [ENDPOINT, None]


def test_an_uncoverable_card_plugged_into_a_running_vm_closes_all_of_it():
    decision = judge(domain_xml(NIC + UNCOVERED["user"].replace(MAC, "52:54:00:00:00:99")), Operation.PLUG)
    assert not decision.allowed
    assert [plan.endpoint for plan in decision.interfaces] == [None, None]
    assert [plan.is_covered for plan in decision.interfaces] == [True, False]
