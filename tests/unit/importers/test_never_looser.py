"""Generated sources with pieces in them that cannot be carried over: what the import allows, the strictest reading allows too.

Each piece is put into the input, and its strictest reading into the reference: what may allow allows nothing, what may deny denies all.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from buckler.policy.importers.kubernetes.cluster import import_kubernetes
from buckler.policy.importers.neutron.cloud import import_neutron
from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.nwfilter.host import import_nwfilter
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.source import Source
from tests.randompolicy import Chooser, Seeded, flag, pick
from tests.unit.importers import kubeworld, test_neutron, test_nsx, test_nwfilter, test_proxmox
from tests.unit.importers.imported import Imported
from tests.unit.importers.kubesemantics import Cluster

pytestmark = pytest.mark.proof

Obj = dict[str, Any]
REVIEW = "2030-01-01"
Asked = Iterator[tuple[str, str, str, int, bool]]
"""Two ends, protocol, port, and whether the strictest reading allows it."""


def kubernetes(choose: Chooser) -> tuple[Import, Asked]:
    sources, spaces, pods, policies = kubeworld.cluster(choose)
    objects = [each for source in sources for each in yaml.safe_load_all(source.text) if each]
    flat = [one for each in objects for one in (each["items"] if each["kind"] == "List" else [each])]
    strict = copy.deepcopy(policies)
    for each, reading in zip([one for one in flat if one["kind"].endswith("Policy")], strict, strict=True):
        assert each["metadata"]["name"] == reading["metadata"]["name"]
        kind = choose.number(0, 3)
        if kind == 0:  # a release that nobody here knows: it may mean what it meant
            each["apiVersion"] = "networking.k8s.io/v9"
        elif kind == 1:
            spoil_rules(choose, each["spec"], reading["spec"], is_wide=each["kind"] != "NetworkPolicy")
    if flag(choose):  # its labels are there, and not in the input
        hidden = pick(choose, kubeworld.SPACES)
        flat = [one for one in flat if one["kind"] != "Namespace" or one["metadata"]["name"] != hidden]
    truth = Cluster(spaces, pods, strict)
    ends: dict[str, Any] = {f"{pod['namespace']}/{pod['name']}": pod for pod in pods}
    ends |= {each: each for each in kubeworld.OUTSIDE}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": flat})
    return import_kubernetes([Source("in.json", text)], REVIEW), (
        (one, other, protocol, port, truth.allows(source, target, protocol, port))
        for one, source in ends.items()
        for other, target in ends.items()
        for protocol, port in (("TCP", 80), ("TCP", 8080), ("UDP", 53), ("TCP", 443))
        if one != other and not (isinstance(source, str) and isinstance(target, str))
    )


def spoil_rules(choose: Chooser, spec: Obj, reading: Obj, *, is_wide: bool) -> None:
    """Give one rule a field that nobody knows. A network policy's closes all the same; an administrator's that denies denies all."""
    side = pick(choose, ("ingress", "egress"))
    if not spec.get(side):
        return
    reading["policyTypes"] = spec.get("policyTypes") or ["Ingress"] + (["Egress"] if spec.get("egress") else [])
    place = choose.number(0, len(spec[side]) - 1)
    spec[side][place] = spec[side][place] | {"when": "tomorrow"}
    if not is_wide or spec[side][place]["action"] in {"Allow", "Accept"}:
        del reading[side][place]
    else:
        everyone = {"from" if side == "ingress" else "to": [{"namespaces": {}}]}
        reading[side][place] = {"name": "all", "action": "Deny", **everyone}


def proxmox(choose: Chooser) -> tuple[Import, Asked]:
    sources, truth = test_proxmox.world(choose)
    made = []
    for source in sources:
        number = source.name.rpartition("/")[2].removesuffix(".fw")
        text = source.text
        if number in truth.guests and flag(choose):
            head, _word, rules = text.partition("[RULES]\n")
            lines = rules.splitlines()
            text = head + "[RULES]\n" + "\n".join(spoil_guest(choose, lines, truth.guests[number]))
        elif number in truth.guests and flag(choose, 4):
            odd = pick(choose, ("[MOON]\nIN DROP", "[options]\nips: 1", "[ RULES ]\nIN ACCEPT", "[group x]\nIN DROP"))
            text += f"\n{odd}\n"
            truth.guests[number] |= {"rules": [refusal("IN"), refusal("OUT")]}
        made.append(Source(source.name, text))
    ends = {
        **{each: f"default/{each}" for each in test_proxmox.GUESTS},
        **{each: each for each in test_proxmox.OUTSIDE},
    }
    return import_proxmox(made, REVIEW), (
        (ends[one], ends[other], protocol, port, truth.allows(one, other, protocol, port))
        for one in ends
        for other in ends
        for protocol, port in test_proxmox.ASKED
        if one != other and {one, other} & set(test_proxmox.GUESTS)
    )


def spoil_guest(choose: Chooser, lines: list[str], guest: Obj) -> list[str]:
    for _ in range(choose.number(1, 2)):
        place = choose.number(0, len(lines))
        way, action = pick(choose, ("IN", "OUT")), pick(choose, ("ACCEPT", "DROP", "REJECT"))
        odd = pick(choose, ("-p gre", "-p tcp -sport 7", "-source +nobody", "-mood good", "-p tcp -dport 80-90"))
        lines.insert(place, f"{way} {action} {odd}")
        guest["rules"].insert(place, refusal(way) | {"off": action == "ACCEPT"})
    return lines


def refusal(way: str) -> Obj:
    blank = dict.fromkeys(("group", "macro", "proto", "dport", "source", "dest"), "")
    return {"way": way, "action": "DROP", "off": False, **blank}


ODD_PARTS = (
    ("tcp", {"connlimit-above": "1"}),
    ("tcp", {"srcportstart": "80"}),
    ("udp", {"match": "no", "srcipaddr": "10.0.0.2"}),
    ("all", {"dscp": "2"}),
    ("esp", {}),
    ("mac", {"srcmacaddr": "52:54:00:00:00:01"}),
    ("ip", {"protocol": "gre"}),
    ("ip", {"srcipaddr": "$NOBODY"}),
)


def nwfilter(choose: Chooser) -> tuple[Import, Asked]:
    sources, rules = [], {}
    for name, address in test_nwfilter.GUESTS.items():
        held = [test_nwfilter.rule(choose) for _ in range(choose.number(0, 4))]
        odd, reading = [], list(held)
        for _ in range(choose.number(0, 2)):
            tag, attributes = pick(choose, ODD_PARTS)
            made = {"tag": tag, "attributes": attributes, "ports": None, "blocks": {}}
            made |= {"action": pick(choose, ("accept", "drop", "reject")), "direction": pick(choose, ("in", "out"))}
            made["priority"] = choose.number(0, 9) * 100 + 50
            odd.append(made)
            if made["action"] != "accept":
                wide = made | {"tag": "ip" if tag in {"mac", "ip"} else "all", "attributes": {}}
                reading += [wide | {"direction": way} for way in ("in", "out")]
        rules[name] = reading
        sources.append(Source(f"{name}-filter.xml", test_nwfilter.xml(held + odd, f"f-{name}")))
        sources.append(Source(f"{name}.xml", test_nwfilter.domain(name, f"f-{name}", address)))
    ends = [*test_nwfilter.GUESTS, *test_nwfilter.OUTSIDE]

    def allows(source: str, target: str, protocol: str, port: int) -> bool:
        addresses = [test_nwfilter.GUESTS.get(each, each) for each in (source, target)]
        return not any(
            test_nwfilter.side_says(rules[end], way, *addresses, protocol, port)
            for end, way in ((source, "out"), (target, "in"))
            if end in rules
        )

    def title(end: str) -> str:
        return f"default/{end}" if end in rules else end

    return import_nwfilter(sources, REVIEW), (
        (title(source), title(target), protocol, port, allows(source, target, protocol, port))
        for source in ends
        for target in ends
        for protocol, port in test_nwfilter.ASKED
        if source != target and {source, target} & set(rules)
    )


def neutron(choose: Chooser) -> tuple[Import, Asked]:
    data = test_neutron.world(choose, dual=bool(choose.number(0, 1)))
    strict = copy.deepcopy(data)
    for group, reading in zip(data["security_groups"], strict["security_groups"], strict=True):
        if flag(choose, 4):
            group["stateful"], reading["security_group_rules"] = False, []
        elif group["security_group_rules"] and flag(choose):
            place = choose.number(0, len(group["security_group_rules"]) - 1)
            odd = pick(choose, ({"protocol": "gre"}, {"remote_moon": "full"}, {"remote_address_group_id": "none"}))
            group["security_group_rules"][place] |= odd
            del reading["security_group_rules"][place]
    if flag(choose, 4):
        data["firewall_groups"] = [{"id": "f"}]
        for reading in strict["security_groups"]:
            reading["security_group_rules"] = []
        for port in (*data["ports"], *strict["ports"]):
            port["port_security_enabled"] = True
    ends: dict[str, Any] = {f"default/{each['name']}": each for each in strict["ports"]}
    ends |= {each: each for each in test_neutron.OUTSIDE}
    return import_neutron([Source("c.json", json.dumps(data))], REVIEW), (
        (one, other, protocol, port >> 8 if protocol.startswith("ICMP") else port, truth == {True})
        for one, source in ends.items()
        for other, target in ends.items()
        for protocol, port in test_neutron.ASKED
        if one != other and not (isinstance(source, str) and isinstance(target, str))
        for truth in [test_neutron.allows(strict, source, target, protocol, port)]
        if truth
    )


def nsx(choose: Chooser) -> tuple[Import, Asked]:
    parts, data = test_nsx.world(choose)
    strict, data = copy.deepcopy(parts), copy.deepcopy(data)
    for policy in strict["policies"]:
        for rule in policy["rules"]:
            if rule["id"] == "d" or not flag(choose, 4):
                continue
            odd = pick(choose, ({"moon": "full"}, {"profiles": ["/p"]}, {"services": ["/s"]}, {"ip_protocol": "IPV6"}))
            for found in rules_of(data, rule["id"]):
                found |= odd
            anyone = {"source_groups": ["ANY"], "destination_groups": ["ANY"], "scope": ["ANY"], "services": ["ANY"]}
            whole = anyone | {"sources_excluded": False, "destinations_excluded": False, "direction": "IN_OUT"}
            allows = rule["action"] == "ALLOW"
            rule |= {"disabled": True} if allows else {**whole, "action": "DROP"}
    truth = test_nsx.Truth(strict)
    ends = {f"default/{name}": (name, f"10.0.0.{int(name[2:]) + 1}") for name in truth.machines}
    ends |= {each: ("", each) for each in test_nsx.OUTSIDE}

    def allows_(source: tuple[str, str], target: tuple[str, str], protocol: str, port: int) -> bool:
        sides = [way for way, end in (("OUT", source), ("IN", target)) if end[0]]
        return all(truth.at(way, source, target, protocol, port) == "ALLOW" for way in sides)

    return import_nsx([Source("dfw.json", json.dumps(data))], REVIEW), (
        (one, other, protocol, port, allows_(source, target, protocol, port))
        for one, source in ends.items()
        for other, target in ends.items()
        for protocol, port in test_nsx.ASKED
        if one != other and (source[0] or target[0])
    )


def rules_of(tree: Any, number: str) -> Iterator[Obj]:
    if isinstance(tree, dict):
        if tree.get("id") == number and "source_groups" in tree:
            yield tree
        for each in tree.values():
            yield from rules_of(each, number)
    elif isinstance(tree, list):
        for each in tree:
            yield from rules_of(each, number)


@pytest.mark.parametrize("importer", [kubernetes, proxmox, nwfilter, neutron, nsx])
def test_nothing_is_allowed_that_the_strictest_reading_denies(importer: Callable[[Chooser], tuple[Import, Asked]]):
    seen = {True: 0, False: 0}
    allowed = told = 0
    for seed in range(40):
        result, asked = importer(Seeded(seed))
        assert {each.effect for each in result.losses} <= set(Effect)
        told += not result.is_exact
        imported = Imported(result)
        for source, target, protocol, port, truth in asked:
            said = imported.reaches(source, target, protocol, port)
            assert truth or not said, (seed, source, target, protocol, port)
            seen[truth] += 1
            allowed += said
    assert told > 10
    assert min(*seen.values(), allowed) > 100, (seen, allowed)
