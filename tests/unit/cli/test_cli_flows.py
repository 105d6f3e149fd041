"""What the table of flows says beside verdict and rule."""

from __future__ import annotations

from msgspec.structs import replace

from buckler.cli.flow import flows_table
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.traffic import FlowItem

REFUSAL = FlowRecord(
    at=1_800_000_000.0, host="h1", local="db1", peer="web1", direction="ingress", verdict="deny", reason="POLICY", protocol="TCP",
    source="10.0.0.11", destination="fd00::21", source_port=40000, destination_port=5432,
)  # fmt: skip


def test_a_flow_says_that_it_was_logged_or_answered_and_what_a_draft_says_else() -> None:
    def cell(**changes: object) -> str:
        return flows_table((FlowItem(1, replace(REFUSAL, policy="db", rule="no-web", **changes)),)).rows[0][5]

    assert cell() == cell(staged="deny") == "db/no-web"
    assert cell(logged=True, answered=True, staged="reject") == "db/no-web (logged; answered)"
    assert cell(staged="allow") == "db/no-web (staged: allow, no rule)"
    told = cell(verdict="allow", logged=True, staged="deny", staged_policy="next", staged_rule="closed")
    assert told == "db/no-web (logged; staged: deny, next/closed)"
