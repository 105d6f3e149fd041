"""Rules that met no packet, as a controller tells them by what hosts counted."""

from __future__ import annotations

from click.testing import CliRunner

from buckler.__main__ import main
from buckler.model.agentapi import Counter, CounterReport

from .conftest import Agent, ControllerProcess
from .shop import SHOP


def test_a_rule_is_unused_until_a_host_counts_it(controller: ControllerProcess, agents: list[Agent]) -> None:
    controller.apply(*SHOP)
    with controller.operator() as client:
        before = client.unused()
        assert {(each.policy, each.rule) for each in before.rules} >= {
            ("web-to-db", "egress"),
            ("web-to-db", "ingress"),
        }
        assert all(each.known for each in before.rules)
        young = client.unused(3)
    assert not any(each.known for each in young.rules), "it was written a moment ago"
    assert all("less than 3 days ago" in each.text for each in young.rules)
    agents[0].client.send_counters(
        CounterReport((Counter("1/2", 1, 5, 500, "web", "db", "egress", "allow", "web-to-db", "egress"),))
    )
    with controller.operator() as client:
        for days in (0, 3):
            assert ("web-to-db", "egress") not in {(each.policy, each.rule) for each in client.unused(days).rules}
        assert ("web-to-db", "ingress") in {(each.policy, each.rule) for each in client.unused().rules}


def test_the_command_tells_them(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    answer = CliRunner().invoke(main, ["--socket", controller.socket, "policy", "unused"])
    assert answer.exit_code == 1, answer.output
    assert "web-to-db/egress" in answer.output
    answer = CliRunner().invoke(main, ["--socket", controller.socket, "policy", "unused", "--days", "1"])
    assert answer.exit_code == 0, "nothing is known for a day yet"
    assert "less than 1 day ago" in answer.output
