"""What a source refuses with an answer is rejected here; what it logs is logged."""

from __future__ import annotations

import json

import pytest

from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.outcome import Import
from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.language import Action, PolicySpec
from buckler.policy.source import Source


def rules(result: Import, side: str = "ingress") -> list[tuple[str, Action, bool]]:
    assert not result.unreadable
    found = []
    for each in result.policies:
        assert isinstance(each.spec, PolicySpec)
        found += [(rule.name, rule.action, rule.log) for rule in getattr(each.spec, side)]
    return found


@pytest.mark.parametrize(
    ("line", "options", "wanted"),
    [
        ("IN REJECT -p tcp -dport 22 -log info", "", [(Action.REJECT, True), (Action.DENY, False)]),
        ("IN DROP -log nolog", "policy_in: REJECT", [(Action.DENY, False), (Action.REJECT, False)]),
        ("IN SSH(REJECT)", "log_level_in: warning", [(Action.REJECT, False), (Action.DENY, True)]),
        ("IN ACCEPT -log debug", "policy_in: ACCEPT", [(Action.ALLOW, True), (Action.ALLOW, False)]),
    ],
)
def test_proxmox(line: str, options: str, wanted: list[tuple[Action, bool]]) -> None:
    sources = [
        Source("cluster.fw", "[OPTIONS]\nenable: 1\n"),
        Source("100.fw", f"[OPTIONS]\nenable: 1\n{options}\n[RULES]\n{line}\n"),
        Source("qemu-server/100.conf", "net0: virtio=52:54:00:00:00:01,bridge=vmbr0,firewall=1\n"),
    ]
    result = import_proxmox(sources, "2030-01-01")
    assert [(action, log) for _name, action, log in rules(result)] == wanted
    assert not [each for each in result.losses if "REJECT" in each.what]


@pytest.mark.parametrize(("action", "wanted"), [("REJECT", Action.REJECT), ("DROP", Action.DENY)])
@pytest.mark.parametrize("logged", [True, False])
def test_nsx(action: str, wanted: Action, logged: bool) -> None:
    rule = {
        "resource_type": "Rule",
        "id": "r",
        "action": action,
        "logged": logged,
        "source_groups": ["ANY"],
        "destination_groups": ["ANY"],
        "services": ["ANY"],
    }
    policy = {"resource_type": "SecurityPolicy", "id": "p", "category": "Application", "rules": [rule]}
    data = {
        "virtual_machines": [{"external_id": "1", "display_name": "vm1"}],
        "vifs": {"results": []},
        "security_policies": [policy],
    }
    result = import_nsx([Source("dfw.json", json.dumps(data))], "2030-01-01")
    found = rules(result)
    assert found
    assert {(done, log) for _name, done, log in found} == {(wanted, logged)}
    assert not [each for each in result.losses if "REJECT" in each.what]
