"""What an imported cloud loses is told at the rule that loses it."""

from __future__ import annotations

import json
from typing import Any

from buckler.policy.importers.neutron.cloud import import_neutron
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.source import Source
from tests.unit.importers.imported import Imported

Obj = dict[str, Any]
PORTS = [
    {"id": f"p{n}", "name": f"vm{n}", "network_id": "n", "security_groups": ["g"]}
    | {"fixed_ips": [{"ip_address": f"10.0.0.{n}"}, {"ip_address": f"2001:db8::{n}"}]}
    for n in (1, 2)
]


def carried(*rules: Obj, **more: Any) -> tuple[Import, list[str]]:
    group = {"id": "g", "name": "web", "security_group_rules": list(rules)}
    text = json.dumps({"ports": PORTS, "security_groups": [group], **more}, indent=1)
    return import_neutron([Source("c.json", text)], "2030-01-01"), text.splitlines()


def test_a_rule_of_a_group_that_is_not_listed_is_told_with_its_line():
    result, lines = carried(security_group_rules=[{"security_group_id": "zzz", "direction": "ingress"}])
    (loss,) = result.losses
    assert loss.effect is Effect.TIGHTENED
    assert "zzz" in loss.what
    assert "zzz" in "".join(lines[loss.line - 1 : loss.line + 1])


def test_lists_that_may_deny_leave_nothing_allowed():
    both = [{"direction": way, "ethertype": family} for way in ("ingress", "egress") for family in ("IPv4", "IPv6")]
    for more, is_open in (
        ({"firewall_groups": [{"id": "f"}]}, False),
        ({"firewall_groups": []}, True),
        ({"agents": [{"id": "a"}]}, True),
    ):
        result, _lines = carried(*both, **more)
        assert bool(Imported(result).talks) is is_open
        assert not result.is_exact


def test_things_given_twice_are_refused():
    rule = {"direction": "ingress", "remote_address_group_id": "a"}
    assert carried(rule, address_groups=[{"id": "a", "addresses": []}] * 2)[0].unreadable
    groups = [{"id": "g", "name": name} for name in ("one", "two")]
    text = json.dumps({"ports": PORTS, "security_groups": groups})
    assert import_neutron([Source("c.json", text)], "2030-01-01").unreadable


def test_losses_of_families_and_of_link_local_addresses_stand_at_their_rule():
    rules = [{"direction": "egress", "ethertype": "IPv4"}, {"direction": "ingress", "remote_ip_prefix": "10.0.0.0/31"}]
    result, lines = carried(*rules)
    told = {loss.line for loss in result.losses if loss.effect is not Effect.NOTE}
    places = [number for number, line in enumerate(lines, 1) if '"direction"' in line]
    assert len(told) == len(rules), result.losses
    assert all(any(line in (place - 1, place) for line in told) for place in places), (told, places)
