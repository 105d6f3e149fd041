"""An imported distributed firewall lets through what NSX lets through, by brute force; what is unclear is denied."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.nsx.order import CATEGORIES
from buckler.policy.importers.outcome import Import
from buckler.policy.source import Source
from tests.randompolicy import Chooser, Seeded, flag, pick
from tests.unit.importers.imported import Imported, unlike

pytestmark = pytest.mark.proof

Obj = dict[str, Any]
GROUPS = "/infra/domains/default/groups/"
OUTSIDE = ("203.0.113.9", "198.51.100.3")
SERVICES = {"web": [("TCP", 80, 80), ("TCP", 443, 445)], "dns": [("UDP", 53, 53)], "all-tcp": [("TCP", 0, 65535)]}
ASKED = [("TCP", port) for port in (22, 80, 443, 446)] + [("UDP", port) for port in (53, 80)]


def condition(choose: Chooser) -> Obj:
    kind = choose.number(0, 3)
    if kind == 0:
        return {
            "resource_type": "Condition",
            "member_type": "VirtualMachine",
            "key": "Name",
            "operator": pick(choose, ("EQUALS", "STARTSWITH", "CONTAINS", "NOTEQUALS")),
            "value": pick(choose, ("vm1", "vm", "2")),
        }
    if kind == 1:
        return {
            "resource_type": "IPAddressExpression",
            "ip_addresses": [pick(choose, ("10.0.0.1", "10.0.0.2-10.0.0.3", "203.0.113.0/24", "10.0.0.0/8"))],
        }
    value = pick(choose, ("env|prod", "env|test", "app|web", "web", "|web"))
    return {
        "resource_type": "Condition",
        "member_type": "VirtualMachine",
        "key": "Tag",
        "operator": "EQUALS",
        "value": value,
    }


def group(choose: Chooser, index: int) -> Obj:
    word = pick(choose, ("OR", "AND"))
    parts = [condition(choose) for _ in range(choose.number(1, 2))]
    if word == "AND":
        parts = [each if each["resource_type"] == "Condition" else condition_of_tag(choose) for each in parts]
    if index and flag(choose, 3) and word == "OR":
        parts.append({"resource_type": "PathExpression", "paths": [f"{GROUPS}g{index - 1}"]})
    if word == "OR" and flag(choose, 3):
        parts[0] = {"resource_type": "NestedExpression", "expressions": [parts[0]]}
    expression = [parts[0]]
    for part in parts[1:]:
        expression += [{"resource_type": "ConjunctionOperator", "conjunction_operator": word}, part]
    return {"resource_type": "Group", "id": f"g{index}", "expression": expression}


def condition_of_tag(choose: Chooser) -> Obj:
    return {
        "resource_type": "Condition",
        "member_type": "VirtualMachine",
        "key": "Tag",
        "operator": "EQUALS",
        "value": pick(choose, ("env|prod", "web")),
    }


def side(choose: Chooser) -> list[str]:
    return ["ANY"] if flag(choose) else sorted({f"{GROUPS}g{choose.number(0, 2)}" for _ in range(choose.number(1, 2))})


def rule(choose: Chooser, index: int, category: str) -> Obj:
    actions = ("ALLOW", "DROP", "REJECT", "ALLOW", *(["JUMP_TO_APPLICATION"] if category == "Environment" else []))
    made: Obj = {
        "resource_type": "Rule",
        "id": f"r{index}",
        "sequence_number": choose.number(0, 9),
        "action": pick(choose, actions),
    }
    made |= {
        "source_groups": side(choose),
        "destination_groups": side(choose),
        "scope": side(choose) if flag(choose, 3) else ["ANY"],
    }
    made |= {
        "services": ["ANY"] if flag(choose) else [f"/infra/services/{pick(choose, tuple(SERVICES))}"],
        "profiles": ["ANY"],
    }
    made |= {
        "direction": pick(choose, ("IN_OUT", "IN_OUT", "IN", "OUT")),
        "disabled": flag(choose, 8),
        "ip_protocol": "IPV4_IPV6",
    }
    for word in ("source", "destination"):
        made[f"{word}s_excluded"] = made[f"{word}_groups"] != ["ANY"] and flag(choose, 4)
    return made


def world(choose: Chooser) -> tuple[Obj, Obj]:
    groups = [group(choose, index) for index in range(3)]
    machines = []
    for index in range(choose.number(2, 4)):
        tags = [{"scope": "env", "tag": pick(choose, ("prod", "test"))}] if flag(choose) else []
        tags += [{"scope": "app", "tag": "web"}] if flag(choose) else []
        machines.append(
            {"resource_type": "VirtualMachine", "external_id": f"id{index}", "display_name": f"vm{index}", "tags": tags}
        )
    vifs = [
        {
            "resource_type": "VirtualNetworkInterface",
            "owner_vm_id": each["external_id"],
            "mac_address": f"00:50:56:00:00:0{n}",
            "ip_address_info": [{"source": "VM_TOOLS", "ip_addresses": [f"10.0.0.{n + 1}"]}],
        }
        for n, each in enumerate(machines)
    ]
    policies = []
    for index in range(choose.number(1, 4)):
        category = pick(choose, CATEGORIES[1:])
        rules = [rule(choose, 10 * index + n, category) for n in range(choose.number(1, 3))]
        for n, each in enumerate(rules):
            each["sequence_number"] = 10 * n + choose.number(0, 9)
        choose_first = pick(choose, (rules, rules[::-1]))
        policies.append(
            {
                "resource_type": "SecurityPolicy",
                "id": f"p{index}",
                "category": category,
                "sequence_number": 5 - index,
                "rules": choose_first,
            }
        )
    default = {
        "id": "d",
        "action": pick(choose, ("ALLOW", "DROP")),
        "sequence_number": 1,
        "source_groups": ["ANY"],
        "destination_groups": ["ANY"],
        "services": ["ANY"],
    }
    policies.append(
        {
            "resource_type": "SecurityPolicy",
            "id": "default",
            "category": "Application",
            "sequence_number": 0,
            "is_default": True,
            "rules": [{"resource_type": "Rule", **default}],
        }
    )
    services = [
        {
            "resource_type": "Service",
            "id": name,
            "service_entries": [
                {
                    "resource_type": "L4PortSetServiceEntry",
                    "l4_protocol": protocol,
                    "destination_ports": [str(low) if low == high else f"{low}-{high}"] if high < 65535 else [],
                }
                for protocol, low, high in entries
            ],
        }
        for name, entries in SERVICES.items()
    ]
    parts = {"groups": groups, "machines": machines, "policies": policies}
    if flag(choose):
        bare = [{key: value for key, value in each.items() if key != "rules"} for each in policies]
        home = "/infra/domains/default/security-policies"
        alone = [one | {"parent_path": f"{home}/{each['id']}"} for each in policies for one in each["rules"]]
        apart = flag(choose)
        return parts, {
            "virtual_machines": machines,
            "vifs": {"results": vifs},
            "security_policies": bare if apart else policies,
            "rules": {"results": alone if apart else []},
            "groups": groups,
            "services": services,
        }
    children = [
        {
            "resource_type": "ChildSecurityPolicy",
            "SecurityPolicy": {
                **each,
                "children": [{"resource_type": "ChildRule", "Rule": one} for one in each["rules"]],
                "rules": None,
            },
        }
        for each in policies
    ]
    children += [{"resource_type": "ChildGroup", "Group": each} for each in groups]
    tree = [
        {"resource_type": "ChildDomain", "Domain": {"resource_type": "Domain", "id": "default", "children": children}}
    ]
    tree += [{"resource_type": "ChildService", "Service": each} for each in services]
    return parts, {"infra": {"resource_type": "Infra", "children": tree}, "results": [*machines, *vifs]}


class Truth:
    """Evaluate the rules at each vNIC, from the top."""

    def __init__(self, parts: Obj) -> None:
        self.groups = {f"{GROUPS}{each['id']}": each["expression"] for each in parts["groups"]}
        self.machines = {each["display_name"]: each for each in parts["machines"]}
        self.rules = []
        for category in CATEGORIES:
            mine = [each for each in parts["policies"] if each["category"] == category]
            for policy in sorted(mine, key=lambda each: (each.get("is_default", False), each["sequence_number"])):
                self.rules += [
                    (category, each) for each in sorted(policy["rules"], key=lambda each: each["sequence_number"])
                ]

    def in_group(self, path: str, name: str, address: str) -> bool:
        expression = self.groups[path]
        votes = [self.fits(each, name, address) for each in expression[::2]]
        return all(votes) if len(expression) > 1 and expression[1]["conjunction_operator"] == "AND" else any(votes)

    def fits(self, each: Obj, name: str, address: str) -> bool:
        if each["resource_type"] == "NestedExpression":
            return any(self.fits(one, name, address) for one in each["expressions"][::2])
        if each["resource_type"] == "PathExpression":
            return any(self.in_group(path, name, address) for path in each["paths"])
        if each["resource_type"] == "IPAddressExpression":
            return any(holds(word, address) for word in each["ip_addresses"])
        machine = self.machines.get(name)
        if machine is None:
            return False
        if each["key"] == "Name":
            value = each["value"]
            return {
                "EQUALS": name == value,
                "NOTEQUALS": name != value,
                "CONTAINS": value in name,
                "STARTSWITH": name.startswith(value),
            }[each["operator"]]
        scope, bar, tag = each["value"].rpartition("|")
        return any(one["tag"] == tag and (not bar or scope in {"", one["scope"]}) for one in machine["tags"])

    def matches(self, words: list[str], excluded: bool, end: tuple[str, str]) -> bool:
        return words == ["ANY"] or any(self.in_group(each, *end) for each in words) != excluded

    def at(self, way: str, source: tuple[str, str], target: tuple[str, str], protocol: str, port: int) -> str:
        here, jumped = source if way == "OUT" else target, False
        for category, each in self.rules:
            if (
                each.get("disabled")
                or way not in each.get("direction", "IN_OUT")
                or (jumped and category != "Application")
            ):
                continue
            if not self.matches(each.get("scope", ["ANY"]), False, here):
                continue
            if not self.matches(each["source_groups"], each.get("sources_excluded", False), source):
                continue
            if not self.matches(each["destination_groups"], each.get("destinations_excluded", False), target):
                continue
            spans = [span for name in each["services"] if name != "ANY" for span in SERVICES[name.rpartition("/")[2]]]
            if spans and not any(kind == protocol and low <= port <= high for kind, low, high in spans):
                continue
            if each["action"] == "JUMP_TO_APPLICATION":
                jumped = True
                continue
            return str(each["action"])
        raise AssertionError("the default rule matches everything")


def holds(word: str, address: str) -> bool:
    number = tuple(map(int, address.split(".")))
    if "-" in word:
        low, high = (tuple(map(int, each.split("."))) for each in word.split("-"))
        return low <= number <= high
    if word.endswith(("/24", "/8")):
        keep = 3 if word.endswith("/24") else 1
        return number[:keep] == tuple(map(int, word.partition("/")[0].split(".")))[:keep]
    return address == word


def test_every_verdict_of_generated_firewalls():
    asked, answers = 0, []
    for seed in range(40):
        parts, data = world(Seeded(seed))
        result = import_nsx([Source("dfw.json", json.dumps(data, indent=1))], "2030-01-01")
        assert not unlike(result), result.losses
        imported, truth = Imported(result), Truth(parts)
        ends = {f"default/{name}": (name, f"10.0.0.{int(name[2:]) + 1}") for name in truth.machines} | {
            each: ("", each) for each in OUTSIDE
        }
        for one, source in ends.items():
            for other, target in ends.items():
                if one == other or not (source[0] or target[0]):
                    continue
                for protocol, port in ASKED:
                    said = [
                        truth.at(way, source, target, protocol, port)
                        for way, end in (("OUT", source), ("IN", target))
                        if end[0]
                    ]
                    refused = next((each for each in said if each != "ALLOW"), "")
                    assert imported.reaches(one, other, protocol, port) == (not refused), (seed, one, other, port)
                    if refused and asked % 5 == 0:
                        assert imported.answers(one, other, protocol, port) == (refused == "REJECT"), (seed, one, other)
                        answers.append(refused)
                    asked += 1
    assert asked > 3_000
    assert min(answers.count(each) for each in ("DROP", "REJECT")) > 30


def carried(rule: Obj, policy: Obj | None = None, default: str = "ALLOW", **more: Any) -> tuple[Import, Imported]:
    machines = [
        {"resource_type": "VirtualMachine", "external_id": f"id{n}", "display_name": f"vm{n}", "tags": []}
        for n in (1, 2)
    ]
    last = {
        "id": "last",
        "category": "Application",
        "sequence_number": 9,
        "is_default": True,
        "rules": [{"id": "d", "action": default}],
    }
    first = {
        "id": "first",
        "category": "Application",
        "sequence_number": 1,
        "rules": [{"id": "r", **rule}],
        **(policy or {}),
    }
    data = {"virtual_machines": machines, "security_policies": [first, last], **more}
    result = import_nsx([Source("dfw.json", json.dumps(data, indent=1))], "2030-01-01")
    return result, Imported(result)


ODD = [
    {"source_groups": [f"{GROUPS}missing"]},
    {"source_groups": ["not an address"]},
    {"services": ["/infra/services/Missing"]},
    {"profiles": ["/infra/context-profiles/FTP"]},
    {"ip_protocol": "IPV6"},
    {"direction": "SIDEWAYS"},
    {"service_entries": [{"resource_type": "L4PortSetServiceEntry", "l4_protocol": "TCP", "source_ports": ["1"]}]},
    {"service_entries": [{"resource_type": "ALGTypeServiceEntry", "alg": "FTP"}]},
    {"service_entries": [{"resource_type": "IPProtocolServiceEntry", "protocol_number": 47}]},
]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_unclear_allows_nothing_and_denies_everything(odd):
    result, imported = carried({"action": "ALLOW", **odd}, default="DROP")
    assert not result.is_exact
    assert not imported.talks
    result, imported = carried({"action": "DROP", **odd})
    assert not result.is_exact
    assert not imported.talks


def test_members_of_whom_nobody_knows_are_not_allowed_and_are_denied():
    group = {"id": "g", "expression": [{"resource_type": "IPAddressExpression", "ip_addresses": ["10.0.0.0/8"]}]}
    result, imported = carried({"action": "ALLOW", "source_groups": [f"{GROUPS}g"]}, default="DROP", groups=[group])
    assert not result.is_exact
    assert not imported.talks
    assert not imported.reaches("10.1.1.1", "default/vm1", "TCP", 1) or imported.inward
    _result, imported = carried({"action": "DROP", "source_groups": [f"{GROUPS}g"]}, groups=[group])
    assert not imported.talks
    assert imported.reaches("203.0.113.1", "default/vm1", "TCP", 1)
    jump = {"action": "JUMP_TO_APPLICATION", "source_groups": [f"{GROUPS}g"]}
    _result, imported = carried(jump, {"category": "Environment"}, groups=[group])
    assert not imported.talks


def test_stateless_policies_and_frames():
    result, imported = carried({"action": "ALLOW"}, {"stateful": False}, default="DROP")
    assert not result.is_exact
    assert not imported.talks
    result, imported = carried({"action": "DROP"}, {"category": "Ethernet"})
    assert not result.is_exact
    assert not imported.talks


def test_without_a_default_the_rest_is_denied():
    data = {
        "virtual_machines": [{"external_id": "a"}, {"external_id": "b"}],
        "security_policies": [{"id": "p", "rules": []}],
    }
    result = import_nsx([Source("x.json", json.dumps(data))], "2030-01-01")
    assert not result.is_exact
    assert not Imported(result).talks


def test_input_that_is_none_is_refused():
    for text in ("{}", "[]", "{", '{"security_policies": [{"id": "p", "category": "Mystery"}]}'):
        assert import_nsx([Source("x.json", text)], "2030-01-01").unreadable
