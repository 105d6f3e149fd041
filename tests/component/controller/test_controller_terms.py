"""What begins and ends: the controller plans at each boundary, catches up after a time without it, and records both."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from buckler.__main__ import main
from buckler.client.operator import OperatorFailed
from buckler.model.operatorapi.documents import Reference
from buckler.model.program import Terms, Verdict
from buckler.policy.timing import write_moment

from .conftest import Agent, ControllerProcess, wait_for
from .shop import SHOP, flow
from .test_controller_life import ledger

REFUSAL = """\
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: no-db}
spec:
  description: nobody asks the database
  owner: shop
  reason: it is being moved
  review: "2030-01-01"
  order: 10
  subject: {matchLabels: {role: db}}
  ingress: [{name: nobody, action: reject}]
"""


def ending(seconds: float, port: int = 5432) -> tuple[str, int]:
    """The flow with an end so many seconds from now, and that end."""
    end = int(time.time() + seconds) + 1
    return flow(port).replace("  action:", f"  until: {write_moment(end)}\n  action:"), end


def exception(seconds: float) -> tuple[str, int]:
    end = int(time.time() + seconds) + 1
    spec = {"owner": "ops", "reason": "the move is checked", "until": write_moment(end), "action": "allow"}
    named = {"policy": "no-db", "rule": "nobody", "from": [{"vm": {"matchLabels": {"role": "web"}}}]}
    head = {"apiVersion": "buckler.io/v1", "kind": "Exception", "metadata": {"name": "check"}}
    return json.dumps({**head, "spec": {**spec, **named}}), end


def terms(agent: Agent, verdict: Verdict = Verdict.ALLOW) -> set[Terms | None]:
    """What holds beside the verdicts of this kind in the newest manifest."""
    assert agent.newest is not None
    programs = agent.policy().programs.values()
    return {entry.terms for program in programs for entry in program.entries if entry.verdict is verdict}


def told(controller: ControllerProcess, kind: str) -> list[str]:
    return [entry.detail["name"] for entry in ledger(controller)[1] if entry.kind == kind]


@pytest.fixture
def agent(agents: list[Agent]) -> Agent:
    for each in agents:
        each.start()
    return agents[1]


def test_an_allowance_carries_its_end_and_is_gone_afterwards(controller: ControllerProcess, agent: Agent) -> None:
    text, end = ending(15)
    controller.apply(*SHOP[:3], text, wait=20)
    assert terms(agent) == {Terms(until=end)}
    assert told(controller, "policy.began") == ["web-to-db"]
    wait_for("nothing is allowed any more", lambda: terms(agent) == set(), 40)
    assert time.time() >= end
    wait_for("its end is recorded", lambda: told(controller, "policy.ended") == ["web-to-db"])
    assert told(controller, "policy.began") == ["web-to-db"], "each once"
    with controller.operator() as client:
        assert client.document("Flow", "default", "web-to-db").document["spec"]["until"] == write_moment(end)
        assert [each.subject for each in client.policy_findings() if each.kind == "over"] == ["Flow web-to-db"]


def test_a_controller_that_was_away_over_an_end_catches_up(controller: ControllerProcess, agent: Agent) -> None:
    text, end = ending(12)
    controller.apply(*SHOP[:3], text, wait=20)
    assert terms(agent) == {Terms(until=end)}
    controller.kill()
    while time.time() < end:
        time.sleep(0.1)
    controller.start()
    wait_for("it planned anew", lambda: terms(agent) == set(), 40)
    assert told(controller, "policy.ended") == ["web-to-db"]


def test_a_longer_end_is_taken_before_the_first_is_over(controller: ControllerProcess, agent: Agent) -> None:
    text, end = ending(60)
    controller.apply(*SHOP[:3], text, wait=20)
    longer, later = ending(600)
    controller.apply(longer, wait=20)
    assert terms(agent) == {Terms(until=later)} != {Terms(until=end)}
    controller.apply(flow(), wait=20)
    assert terms(agent) == {None}


def test_an_exception_lets_a_rule_yield_and_the_rule_arms_itself_again(
    controller: ControllerProcess, agent: Agent
) -> None:
    controller.apply(*SHOP, REFUSAL, wait=20)
    assert terms(agent, Verdict.REJECT) == {None}
    with controller.operator() as client:
        assert client.explain("web", "db", "TCP", 5432).verdict == "deny"
        text, end = exception(15)
        controller.apply(text, wait=20)
        allowed = client.explain("web", "db", "TCP", 5432)
    assert allowed.verdict == "allow"
    assert {side.until for path in allowed.paths for side in path.sides} == {0, end}
    assert f"Until {write_moment(end)}" in allowed.paths[0].sides[1].text
    assert Terms(until=end) in terms(agent)
    assert told(controller, "policy.began") == ["check"]
    wait_for("it is over", lambda: Terms(until=end) not in terms(agent), 40)
    assert told(controller, "policy.ended") == ["check"]
    with controller.operator() as client:
        assert client.explain("web", "db", "TCP", 5432).verdict == "deny"


def test_a_staged_flow_decides_nothing_until_it_is_promoted(controller: ControllerProcess, agent: Agent) -> None:
    staged = flow().replace("  action:", "  mode: staged\n  action:")
    controller.apply(*SHOP[:3], staged, wait=20)
    assert terms(agent) == set()
    assert {each.staged for each in terms(agent, Verdict.DENY) if each} == {Verdict.ALLOW, Verdict.DENY}
    with controller.operator() as client:
        side = client.explain("web", "db", "TCP", 5432).paths[0].sides[0]
    assert (side.verdict, side.staged) == ("deny", "allow")
    asked = CliRunner().invoke(
        main, ["--socket", controller.socket, "policy", "promote", "web-to-db", "-m", "it is right"]
    )
    assert asked.exit_code == 0, asked.output
    wait_for("it decides", lambda: terms(agent) == {None})
    again = CliRunner().invoke(main, ["--socket", controller.socket, "policy", "promote", "web-to-db"])
    assert again.exit_code == 1
    none = CliRunner().invoke(main, ["--socket", controller.socket, "policy", "staged"])
    assert none.exit_code == 0, none.output


EDGE = """\
apiVersion: buckler.io/v1
kind: Policy
metadata: {{name: {name}}}
spec:
  description: the border
  owner: network
  reason: the pool is not public
  review: "2030-01-01"
  tier: security
  order: {order}
  subject: {{edge: true}}
  {times}
  egress: [{{name: all, action: {action}, to: [{{cidr: 203.0.113.0/24}}]}}]
"""
OUT = """\
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: out}
spec:
  description: the web server asks others
  owner: shop
  reason: it fetches pages
  review: "2030-01-01"
  subject: {matchLabels: {role: web}}
  egress: [{name: all, action: allow, to: [{world: true}]}]
"""


def test_an_allowance_at_the_edge_ends_by_itself_and_what_always_asks_stays(
    controller: ControllerProcess, agent: Agent
) -> None:
    end = int(time.time()) + 20
    visit = EDGE.format(name="visit", order=10, times=f"until: {write_moment(end)}", action="allow")
    border = EDGE.format(name="border", order=20, times="priority: high", action="deny")
    with pytest.raises(OperatorFailed) as refused:
        controller.apply(*SHOP, OUT, visit)
    assert "no policy that always holds asks the edge in its egress" in str(refused.value.problem.problems)
    controller.apply(*SHOP, OUT, visit, border, wait=20)
    assert Terms(until=end) in terms(agent)
    with controller.operator() as client:
        with pytest.raises(OperatorFailed):
            client.delete(Reference("Policy", "border", "default"))
        assert client.explain("web", "203.0.113.9", "TCP", 443).verdict == "allow"
        wait_for("it is over", lambda: client.explain("web", "203.0.113.9", "TCP", 443).verdict == "deny", 60)
        assert time.time() >= end
    wait_for("no program has it", lambda: Terms(until=end) not in terms(agent), 40)
