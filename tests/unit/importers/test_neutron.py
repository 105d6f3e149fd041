"""Imported security groups allow what the Networking API says they allow, by brute force; what is unclear is denied."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from buckler.policy.importers.neutron.cloud import import_neutron
from buckler.policy.importers.outcome import Import
from buckler.policy.source import Source
from tests.randompolicy import Chooser, Seeded, flag, pick
from tests.unit.importers.imported import Imported, unlike

pytestmark = pytest.mark.proof

Obj = dict[str, Any]
OUTSIDE = ("203.0.113.9", "198.51.100.3", "2001:db8::9")
PREFIXES = {
    4: ("0.0.0.0/0", "10.0.0.0/25", "10.0.0.12/32", "203.0.113.0/24"),
    6: ("::/0", "fd00::/64", "2001:db8::/32"),
}
ASKED = (
    [("TCP", port) for port in (22, 80, 443)]
    + [("UDP", port) for port in (53, 80)]
    + [("ICMP", 8 << 8), ("ICMPv6", 128 << 8)]
)


def rule(choose: Chooser, groups: int, families: tuple[str, ...]) -> list[Obj]:
    made: Obj = {"id": "r", "direction": pick(choose, ("ingress", "egress")), "ethertype": pick(choose, families)}
    made |= {
        "protocol": None,
        "port_range_min": None,
        "port_range_max": None,
        "remote_ip_prefix": None,
        "remote_group_id": None,
    }
    kind = choose.number(0, 5)
    if kind <= 2:
        made["protocol"] = pick(choose, ("tcp", "udp", "6"))
        if flag(choose):
            made["port_range_min"], made["port_range_max"] = pick(choose, ((22, 22), (80, 443), (1, 65535), (53, 80)))
    elif kind == 3:
        made["protocol"] = "icmp"
        if flag(choose):
            made["port_range_min"] = pick(choose, (8, 128))
    remote = choose.number(0, 2)
    if remote == 0:
        made["remote_ip_prefix"] = pick(choose, PREFIXES[4 if made["ethertype"] == "IPv4" else 6])
    elif remote == 1:
        made["remote_group_id"] = f"sg{choose.number(0, groups - 1)}"
    if remote != 0 and len(families) == 2:
        return [{**made, "ethertype": each} for each in families]
    return [made]


def world(choose: Chooser, dual: bool) -> Obj:
    count = choose.number(1, 3)
    families = ("IPv4", "IPv6") if dual else ("IPv4",)
    groups = [
        {
            "id": f"sg{index}",
            "name": "default",
            "stateful": True,
            "security_group_rules": [
                each for _ in range(choose.number(0, 4)) for each in rule(choose, count, families)
            ],
        }
        for index in range(count)
    ]
    ports = []
    for index in range(choose.number(2, 5)):
        address = (f"10.0.0.{(10, 12, 40, 130, 131)[index]}", f"fd00::{index + 1}")
        ports.append(
            {
                "id": f"p{index}",
                "name": f"vm{index}",
                "device_id": f"11111111-0000-4000-8000-00000000000{index}",
                "device_owner": "compute:nova",
                "network_id": "n1",
                "mac_address": f"fa:16:3e:00:00:0{index}",
                "fixed_ips": [{"ip_address": each} for each in (address if dual else address[:1])],
                "security_groups": sorted({f"sg{choose.number(0, count - 1)}" for _ in range(choose.number(0, 2))}),
                "port_security_enabled": not flag(choose, 8),
            }
        )
    return {"security_groups": groups, "ports": ports, "networks": [{"id": "n1", "name": "lan"}]}


def permits(data: Obj, port: Obj, direction: str, far: Obj | str, family: int, protocol: str, number: int) -> bool:
    if not port["port_security_enabled"]:
        return True
    rules = [
        each
        for group in data["security_groups"]
        if group["id"] in port["security_groups"]
        for each in group["security_group_rules"]
    ]
    return any(each["direction"] == direction and matches(each, far, family, protocol, number) for each in rules)


def matches(each: Obj, far: Obj | str, family: int, protocol: str, number: int) -> bool:
    if each["ethertype"] != f"IPv{family}":
        return False
    low, high = each["port_range_min"], each["port_range_max"]
    if each["protocol"] is not None:
        name = {"6": "TCP", "icmp": "ICMP" if family == 4 else "ICMPv6"}.get(each["protocol"], each["protocol"].upper())
        if name != protocol:
            return False
        if name.startswith("ICMP"):
            if low is not None and low != number >> 8:
                return False
        elif low is not None and not low <= number <= high:
            return False
    if each["remote_ip_prefix"]:
        return any(
            ipaddress.ip_address(one) in ipaddress.ip_network(each["remote_ip_prefix"])
            for one in addresses(far, family)
        )
    return not each["remote_group_id"] or (
        not isinstance(far, str) and each["remote_group_id"] in far["security_groups"]
    )


def addresses(end: Obj | str, family: int) -> list[str]:
    owned = [end] if isinstance(end, str) else [each["ip_address"] for each in end["fixed_ips"]]
    return [each for each in owned if ipaddress.ip_address(each).version == family]


def allows(data: Obj, source: Obj | str, target: Obj | str, protocol: str, number: int) -> set[bool]:
    """Give the verdicts of every family in which both ends have an address."""
    found = set()
    for family in (4, 6):
        if protocol == {4: "ICMPv6", 6: "ICMP"}[family] or not (
            addresses(source, family) and addresses(target, family)
        ):
            continue
        out = isinstance(source, str) or permits(data, source, "egress", target, family, protocol, number)
        found.add(
            out and (isinstance(target, str) or permits(data, target, "ingress", source, family, protocol, number))
        )
    return found


def compare(data: Obj, *, exact: bool) -> int:
    result = import_neutron([Source("cloud.json", json.dumps(data, indent=1))], "2030-01-01")
    imported = Imported(result)
    ends: dict[str, Obj | str] = {f"default/{each['name']}": each for each in data["ports"]} | {
        each: each for each in OUTSIDE
    }
    asked = 0
    for one, source in ends.items():
        for other, target in ends.items():
            if one == other or (isinstance(source, str) and isinstance(target, str)):
                continue
            for protocol, number in ASKED:
                said = imported.reaches(one, other, protocol, number >> 8 if protocol.startswith("ICMP") else number)
                truth = allows(data, source, target, protocol, number)
                if not truth:
                    continue
                if exact and not unlike(result):
                    assert {said} == truth or (len(truth) == 2 and not said), (one, other, protocol, number, data)
                assert not said or truth == {True}, (one, other, protocol, number)
                asked += 1
    return asked


def test_every_verdict_of_clouds_of_one_family():
    asked = 0
    for seed in range(80):
        data = world(Seeded(seed), dual=False)
        asked += compare(data, exact=True)
    assert asked > 10_000


def test_no_verdict_of_clouds_of_both_families_is_loosened():
    assert sum(compare(world(Seeded(seed), dual=True), exact=True) for seed in range(60)) > 8_000


def carried(rules: list[Obj], **more: Any) -> tuple[Import, Imported]:
    group = {"id": "g", "name": "web", "security_group_rules": rules} | more
    ports = [
        {
            "id": f"p{n}",
            "name": f"vm{n}",
            "network_id": "n",
            "fixed_ips": [{"ip_address": f"10.0.0.{n}"}],
            "security_groups": ["g"],
        }
        for n in (1, 2)
    ]
    result = import_neutron([Source("c.json", json.dumps({"security_groups": [group], "ports": ports}))], "2030-01-01")
    return result, Imported(result)


OPEN = [{"direction": way, "ethertype": family} for way in ("ingress", "egress") for family in ("IPv4", "IPv6")]


def test_the_open_group_is_open_and_exact():
    result, imported = carried(OPEN)
    assert result.is_exact
    assert imported.talks["default/vm1", "default/vm2"] == "all"


@pytest.mark.parametrize(
    "odd",
    [
        {"protocol": "gre"},
        {"direction": "sideways"},
        {"ethertype": "IPv5"},
        {"remote_ip_prefix": "300.0.0.0/8"},
        {"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "g"},
        {"port_range_min": 80, "port_range_max": 80},
        {"protocol": "tcp", "port_range_min": 80},
        {"protocol": "tcp", "port_range_min": 80, "port_range_max": 79},
        {"protocol": "tcp", "port_range_min": "80", "port_range_max": "80"},
        {"remote_address_group_id": "missing"},
        {"remote_moon": "full"},
    ],
)
def test_what_is_unclear_allows_nothing(odd):
    result, imported = carried([{"direction": "ingress", "ethertype": "IPv4", **odd}, *OPEN[2:]])
    assert not result.is_exact
    assert not imported.talks


def test_stateless_groups_allow_nothing():
    result, imported = carried(OPEN, stateful=False)
    assert not result.is_exact
    assert not imported.talks


def test_input_that_is_none_is_refused():
    for text in ("{}", "[]", '{"ports": 3}', "{"):
        assert import_neutron([Source("c.json", text)], "2030-01-01").unreadable
