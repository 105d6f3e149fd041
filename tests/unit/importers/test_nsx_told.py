"""What an import from NSX does not understand allows nothing and denies; what NSX leaves open denies first; all is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.source import Source
from tests.unit.importers.imported import Imported

Obj = dict[str, Any]
GROUP = "/infra/domains/default/groups/g"
MACHINES = [
    {"external_id": "v1", "display_name": "a", "tags": [{"scope": "app", "tag": "web"}]},
    {"external_id": "v2", "display_name": "b", "tags": [{"scope": "env", "tag": "web"}]},
]


def policy(name: str, *rules: Obj, **more: Any) -> Obj:
    return {"id": name, "category": "Application", "sequence_number": 1, "rules": list(rules), **more}


def carried(*policies: Obj, default: str = "DROP", **more: Any) -> Import:
    last = policy("last", {"id": "d", "action": default}, sequence_number=9, is_default=True)
    data = {"virtual_machines": MACHINES, "security_policies": [*policies, last], **more}
    return import_nsx([Source("dfw.json", json.dumps(data, indent=1))], "2030-01-01")


def group(*expression: Obj, **more: Any) -> list[Obj]:
    return [{"id": "g", "expression": list(expression), **more}]


def told(result: Import, word: str) -> list[Effect]:
    found = [each for each in result.losses if word in each.what]
    assert all(each.file == "dfw.json" and each.line > 1 for each in found), found
    return [each.effect for each in found]


@pytest.mark.parametrize("field", [{"time_window": "x"}, {"source_ports": ["1"]}, {"moon": {"phase": "full"}}])
def test_a_rule_with_a_field_nobody_knows_allows_nothing_and_denies_all(field: Obj):
    for action, default in (("ALLOW", "DROP"), ("DROP", "ALLOW")):
        result = carried(policy("p", {"id": "r", "action": action, "services": [], **field}), default=default)
        assert told(result, next(iter(field))) == [Effect.TIGHTENED]
        assert not Imported(result).talks


def test_a_policy_of_certain_hours_allows_nothing_and_denies_always():
    hours = {"scheduler_path": "/infra/firewall-schedulers/s"}
    result = carried(policy("p", {"id": "r", "action": "ALLOW"}, **hours))
    assert Effect.TIGHTENED in told(result, "at times only")
    assert not Imported(result).talks
    result = carried(policy("p", {"id": "r", "action": "DROP"}, **hours), default="ALLOW")
    assert Effect.TIGHTENED in told(result, "at times only")
    assert not Imported(result).talks


@pytest.mark.parametrize("field", [{"connectivity_preference": "ALLOWLIST"}, {"moon": "full"}])
def test_a_policy_that_says_more_than_its_rules_denies_behind_them(field: Obj):
    result = carried(policy("p", {"id": "r", "action": "ALLOW", "source_groups": [GROUP]}, **field),
                     default="ALLOW", groups=group({"resource_type": "ExternalIDExpression",
                     "member_type": "VirtualMachine", "external_ids": ["v1"]}))  # fmt: skip
    assert told(result, next(iter(field))) == [Effect.TIGHTENED]
    assert set(Imported(result).talks) == {("default/a", "default/b")}


def test_a_scope_that_must_not_be_is_unclear():
    condition = {"resource_type": "Condition", "member_type": "VirtualMachine", "key": "Tag", "operator": "EQUALS"}
    found = group(condition | {"scope_operator": "NOTEQUALS", "value": "app|web"})
    result = carried(policy("p", {"id": "r", "action": "ALLOW", "source_groups": [GROUP]}), groups=found)
    assert told(result, "scope") == [Effect.TIGHTENED]
    assert not Imported(result).talks


PARENT = "/infra/domains/default/security-policies/p"


@pytest.mark.parametrize("where", [{"parent_path": PARENT}, {"path": f"{PARENT}/rules/r"}])
def test_rules_that_stand_by_themselves_are_of_their_policy(where: Obj):
    for more in ({}, {"path": PARENT}):
        result = carried(policy("p", **more), default="ALLOW", rules=[{"id": "r", "action": "DROP", **where}])
        assert result.is_exact, result.losses
        assert not Imported(result).talks


def test_a_rule_whose_policy_is_not_there_is_refused():
    result = carried(rules=[{"id": "r", "action": "DROP", "parent_path": PARENT}], default="ALLOW")
    (problem,) = result.unreadable
    assert (problem.file, problem.line > 1) == ("dfw.json", True)


def test_what_is_given_twice_is_refused():
    twice = policy("p", {"id": "r", "action": "ALLOW"})
    assert carried(twice, twice).unreadable
    assert carried(groups=[*group(), *group()]).unreadable
    assert carried(policy("p", {"id": "r", "action": "ALLOW"}, {"id": "r", "action": "DROP"})).unreadable


def test_what_is_marked_for_deletion_is_left_out_and_told():
    doomed = policy("q", {"id": "r", "action": "ALLOW"}, category="Emergency", marked_for_delete=True)
    result = carried(doomed)
    assert told(result, "deletion") == [Effect.OMITTED]
    assert not Imported(result).talks


HIDDEN = {"resource_type": "IPAddressExpression", "ip_addresses": ["203.0.113.0/24"]}


def test_addresses_in_a_nested_expression_are_addresses():
    found = group({"resource_type": "NestedExpression", "expressions": [HIDDEN]})
    result = carried(
        policy("p", {"id": "r", "action": "DROP", "destination_groups": [GROUP]}), default="ALLOW", groups=found
    )
    assert not Imported(result).reaches("default/a", "203.0.113.9", "TCP", 80)
    assert Imported(result).reaches("default/a", "198.51.100.3", "TCP", 80)


@pytest.mark.parametrize(
    "expression",
    [
        {"resource_type": "Condition", "member_type": "IPSet", "key": "Tag", "operator": "EQUALS", "value": "x"},
        {"resource_type": "PathExpression", "paths": ["/infra/ip-sets/x"]},
        {"resource_type": "ExternalIDExpression", "member_type": "PhysicalServer", "external_ids": ["x"]},
        {"resource_type": "MACAddressExpression", "mac_addresses": ["00:50:56:00:00:77"]},
        {"resource_type": "IPAddressExpression", "ip_addresses": ["203.0.113.1"], "moon": 1},
        {"resource_type": "IPAddressExpression", "ip_addresses": ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"]},
        {"resource_type": "IPAddressExpression", "ip_addresses": ["223.0.0.0-225.0.0.0"]},
    ],
)
def test_members_that_may_be_outside_close_the_outside(expression: Obj):
    rule = {"id": "r", "action": "DROP", "destination_groups": [GROUP]}
    result = carried(policy("p", rule), default="ALLOW", groups=group(expression))
    assert not result.is_exact
    assert not Imported(result).outward


def test_of_equal_numbers_what_denies_comes_first():
    allow, drop = ({"id": word, "action": word, "sequence_number": 4} for word in ("ALLOW", "DROP"))
    for result in (
        carried(policy("p", allow, drop), default="ALLOW"),
        carried(policy("p", allow), policy("q", drop), default="ALLOW"),
        carried(policy("q", allow), policy("p", drop), default="ALLOW"),
    ):
        assert told(result, "sequence number") == [Effect.TIGHTENED]
        assert not Imported(result).talks
    assert carried(policy("p", allow, allow | {"id": "second"})).is_exact


@pytest.mark.parametrize("port", ["9" * 5000, "1-" + "9" * 5000, "²", "0000000000080"])
def test_ports_that_are_none_are_told(port: str):
    entry = {"resource_type": "L4PortSetServiceEntry", "l4_protocol": "TCP", "destination_ports": [port]}
    result = carried(policy("p", {"id": "r", "action": "ALLOW", "service_entries": [entry]}))
    assert told(result, "no range of ports") == [Effect.TIGHTENED]
    assert not Imported(result).talks


def nested(name: str, inner: str, times: int) -> Obj:
    entry = {"resource_type": "NestedServiceServiceEntry", "nested_service_path": f"/infra/services/{inner}"}
    return {"id": name, "service_entries": [entry] * times}


def test_services_of_services_are_worked_out_once():
    services = [nested(f"s{n}", f"s{n + 1}" if n < 7 else "SSH", 12) for n in range(8)]
    rule = {"id": "r", "action": "ALLOW", "services": ["/infra/services/s0"]}
    result = carried(policy("p", rule), services=services)
    assert Imported(result).reaches("default/a", "default/b", "TCP", 22)
    result = carried(policy("p", rule), services=[nested("s0", "s1", 12), nested("s1", "s0", 12)])
    assert told(result, "refers to itself") == [Effect.TIGHTENED]


def test_a_service_of_too_many_ports_is_unclear():
    ports = [str(2 * n) for n in range(1001)]
    entry = {"resource_type": "L4PortSetServiceEntry", "l4_protocol": "TCP", "destination_ports": ports}
    result = carried(policy("p", {"id": "r", "action": "ALLOW", "service_entries": [entry]}))
    assert told(result, "more than 1000") == [Effect.TIGHTENED]
    assert not Imported(result).talks


@pytest.mark.parametrize(
    ("more", "is_open"),
    [
        ({"things": [{"id": "x"}]}, True),
        ({"things": [{"resource_type": "Tier1", "id": "x"}]}, True),
        ({"gateway_policies": [{"id": "x"}]}, False),
        ({"gateway_policies": []}, True),
        ({"things": [{"resource_type": "GatewayPolicy", "id": "x"}]}, False),
        ({"things": [{"resource_type": "IdsSecurityPolicy", "id": "x"}]}, False),
        ({"things": [{"resource_type": "CommunicationMap", "id": "x"}]}, False),
        ({"things": [{"resource_type": "ChildGatewayPolicy", "GatewayPolicy": {"id": "x"}}]}, False),
        ({"infra": {"connectivity_strategy": "WHITELIST"}}, False),
        ({"infra": {"connectivity_strategy": "MOON"}}, False),
        ({"infra": {"connectivity_strategy": "BLACKLIST"}}, True),
    ],
)
def test_what_else_may_filter_closes_all(more: Obj, is_open: bool):
    result = carried(default="ALLOW", **more)
    assert bool(Imported(result).talks) is is_open
    assert any(each.effect is Effect.TIGHTENED for each in result.losses) is not is_open


def test_what_does_not_say_what_it_is_and_looks_like_a_policy_is_refused():
    assert carried(default="ALLOW", things=[{"id": "x", "action": "DROP"}]).unreadable


def test_strategies_leave_what_rules_allow():
    web = policy("p", {"id": "r", "action": "ALLOW", "service_entries": [SSH]})
    imported = Imported(carried(web, default="ALLOW", infra={"connectivity_strategy": "WHITELIST"}))
    assert imported.reaches("default/a", "default/b", "TCP", 22)
    assert not imported.reaches("default/a", "default/b", "TCP", 80)


SSH = {"resource_type": "L4PortSetServiceEntry", "l4_protocol": "TCP", "destination_ports": ["22"]}
