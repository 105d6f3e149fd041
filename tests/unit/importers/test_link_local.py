"""IPv6 link-local addresses: no import allows more by them than its source, and each difference is told with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations

import pytest

from buckler.policy.importers.addressed import Blocks
from buckler.policy.importers.linklocal import holds_link_local
from buckler.policy.importers.neutron.cloud import import_neutron
from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.nwfilter.host import import_nwfilter
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.pool import singled_out, stations
from buckler.policy.source import Source
from tests.randompolicy import Seeded
from tests.unit.importers import test_neutron, test_proxmox
from tests.unit.importers.imported import Imported

REVIEW = "2030-01-01"
CARD = "net0: virtio=02:00:00:00:00:{0},bridge={1},firewall=1\nipconfig0: ip=10.0.0.{0}/24\n"


def proxmox(line: str, bridges: tuple[str, str] = ("vmbr0", "vmbr0")) -> Import:
    texts = {
        "cluster.fw": "[OPTIONS]\nenable: 1\n",
        "100.fw": f"[OPTIONS]\nenable: 1\n[RULES]\n{line}\n",
        "100.conf": CARD.format(10, bridges[0]),
        "101.conf": CARD.format(11, bridges[1]),
    }
    return import_proxmox([Source(name, text) for name, text in texts.items()], REVIEW)


def nwfilter(line: str) -> Import:
    held = f"<filter name='f' chain='root'>\n{line}\n</filter>"
    sources = [Source("f.xml", held)]
    for number in (1, 2):
        card = (
            f"<interface type='bridge'><mac address='52:54:00:00:00:0{number}'/><source bridge='br0'/>"
            f"<filterref filter='f'><parameter name='IP' value='10.0.0.{number}'/></filterref></interface>"
        )
        sources.append(Source(f"{number}.xml", f"<domain><name>vm{number}</name><devices>{card}</devices></domain>"))
    return import_nwfilter(sources, REVIEW)


def neutron(rule: dict[str, object]) -> Import:
    ports = [
        {"id": f"p{n}", "name": f"vm{n}", "network_id": "n", "fixed_ips": [{"ip_address": f"10.0.0.{n}"}]}
        | {"security_groups": ["g"]}
        for n in (1, 2)
    ]
    group = {"id": "g", "name": "g", "security_group_rules": [{"direction": "ingress"} | rule]}
    return import_neutron([Source("c.json", json.dumps({"security_groups": [group], "ports": ports}))], REVIEW)


def nsx(rule: dict[str, object]) -> Import:
    machines = [{"resource_type": "VirtualMachine", "external_id": f"m{n}", "display_name": f"vm{n}"} for n in (1, 2)]
    cards = [
        {"external_id": f"c{n}", "owner_vm_id": f"m{n}", "mac_address": f"02:00:00:00:00:0{n}"}
        | {"ip_address_info": [{"source": "VM_TOOLS", "ip_addresses": [f"10.0.0.{n}"]}]}
        for n in (1, 2)
    ]
    whole = {"resource_type": "Rule", "id": "r", "action": "ALLOW", "source_groups": ["ANY"]} | rule
    policy = {"resource_type": "SecurityPolicy", "id": "p", "category": "Application", "is_default": True}
    data = {"security_policies": [policy | {"rules": [whole]}], "virtual_machines": machines, "vifs": cards}
    return import_nsx([Source("d.json", json.dumps(data, indent=1))], REVIEW)


def about(result: Import) -> list[Effect]:
    found = [each for each in result.losses if "link-local" in each.what]
    assert not result.unreadable, result.unreadable
    assert all(each.file and each.line for each in found), found
    return sorted({each.effect for each in found})


LOOSER: list[Callable[[], Import]] = [
    lambda: proxmox("IN ACCEPT -source 10.0.0.0/24 -p tcp -dport 22"),
    lambda: proxmox("IN ACCEPT -dest 10.0.0.10 -p tcp -dport 22"),
    lambda: proxmox("IN DROP -source ::/0\nIN ACCEPT"),
    lambda: proxmox("IN ACCEPT -source 10.0.0.11 -p ipv6-icmp"),
    lambda: nwfilter("<rule action='accept' direction='in'><tcp dstportstart='22'/></rule>"),
    lambda: nwfilter("<rule action='drop' direction='in'><tcp-ipv6 dstportstart='22'/></rule>"),
    lambda: neutron({"remote_ip_prefix": "10.0.0.0/24"}),
    lambda: neutron({"ethertype": "IPv4", "remote_group_id": "g"}),
    lambda: neutron({"ethertype": "IPv4", "protocol": "tcp"}),
    lambda: nsx({"source_groups": ["10.0.0.0/24"]}),
    lambda: nsx({"ip_protocol": "IPV4"}),
    lambda: nsx({"source_groups": ["10.0.0.0/24"], "sources_excluded": True, "action": "DROP"}),
]  # fmt: skip


def speaks_by_them(result: Import) -> bool:
    """Say whether any VM of the import has a link-local address, in any network."""
    draft = Imported(result).draft
    owned = [each for one in stations(draft.pool, singled_out(draft.documents)) for each in one.addresses]
    return any(each.startswith("fe80:") for each in owned)


@pytest.mark.parametrize("made", LOOSER)
def test_what_would_be_looser_by_link_local_addresses_leaves_them_out(made: Callable[[], Import]):
    result = made()
    assert about(result) == [Effect.TIGHTENED], result.losses
    assert not result.is_exact
    assert not speaks_by_them(result)


@pytest.mark.parametrize(
    "made",
    [
        lambda: proxmox("IN DROP -source 10.0.0.0/24 -p tcp -dport 22"),
        lambda: proxmox("IN ACCEPT -source ::/0"),
        lambda: nwfilter("<rule action='drop' direction='in'><tcp dstportstart='22'/></rule>"),
        lambda: nsx({"source_groups": ["10.0.0.0/24"], "action": "DROP"}),
    ],
)
def test_what_is_tighter_by_them_is_a_loss_too(made: Callable[[], Import]):
    result = made()
    assert about(result) == [Effect.TIGHTENED]
    assert speaks_by_them(result)


@pytest.mark.parametrize(
    "made",
    [
        lambda: proxmox("IN ACCEPT -p tcp -dport 22"),
        lambda: proxmox("IN ACCEPT -source +m -p tcp -dport 22\n[IPSET m]\n10.0.0.0/24\nfe80::/10"),
        lambda: proxmox("IN ACCEPT -source 10.0.0.0/24 -p icmp"),
        lambda: proxmox("IN ACCEPT -source 203.0.113.0/24"),
        lambda: proxmox("IN ACCEPT -source 10.0.0.0/24", ("vmbr0", "vmbr1")),
        lambda: nwfilter("<rule action='accept' direction='in'/>"),
        lambda: nwfilter("<rule action='accept' direction='in'><icmp type='8'/></rule>"),
        lambda: neutron({"ethertype": "IPv4", "protocol": "icmp"}),
        lambda: neutron({"remote_ip_prefix": "203.0.113.0/24"}),
        lambda: nsx({}),
    ],
)
def test_what_means_them_at_both_or_neither_is_not_told(made: Callable[[], Import]):
    result = made()
    assert about(result) == []
    assert speaks_by_them(result)


def by_link_local(end: dict[str, object], number: int) -> dict[str, object]:
    return end | {"fixed_ips": [{"ip_address": f"fe80::{number}"}]}


@pytest.mark.proof
def test_where_vms_have_them_every_verdict_holds_for_them_too():
    """Of generated sources: what two VMs may say to each other they may say by link-local addresses, or have none."""
    speaking = allowed = 0
    for seed in range(60):
        data = test_neutron.world(Seeded(seed), dual=bool(seed % 2))
        neutron_ = import_neutron([Source("c.json", json.dumps(data))], REVIEW)
        sources, truth = test_proxmox.world(Seeded(seed))
        for result in (neutron_, import_proxmox(sources, REVIEW)):
            if not speaks_by_them(result):
                continue
            speaking += 1
            imported = Imported(result)
            if result is neutron_:
                ends = {f"default/{each['name']}": by_link_local(each, n) for n, each in enumerate(data["ports"], 1)}
            else:
                ends = {f"default/{each}": {"number": each} for each in test_proxmox.GUESTS}
            for (one, source), (other, target) in permutations(ends.items(), 2):
                for protocol, port in (("TCP", 22), ("TCP", 80), ("UDP", 53)):
                    if imported.reaches(one, other, protocol, port):
                        allowed += 1
                        if result is neutron_:
                            assert test_neutron.allows(data, source, target, protocol, port) == {True}, (
                                seed,
                                one,
                                other,
                            )
                        else:
                            names = str(source["number"]), str(target["number"])
                            said = truth.refusal(*names, protocol, port, ["fe80::1", "fe80::2"])
                            assert not said, (seed, one, other, protocol, port)
    assert speaking > 20
    assert allowed > 100


def test_a_set_holds_them_by_its_longest_prefix():
    assert holds_link_local(None) is True
    assert holds_link_local(Blocks(("::/0",))) is True
    assert holds_link_local(Blocks(("::/0",), ("fe80::/10",))) is False
    assert holds_link_local(Blocks(("::/0", "fe80::/10"), ("fe00::/8",))) is True
    assert holds_link_local(Blocks(("0.0.0.0/0", "2001:db8::/32"))) is False
    assert holds_link_local(Blocks(("fe80::1/128",))) is None
