from __future__ import annotations

import json

import yaml
from msgspec.structs import replace

from buckler.cli.counter import counters_table
from buckler.cli.describe import document_lines, vm_lines
from buckler.cli.document import documents_table, list_of
from buckler.cli.flow import because, flow_line, flows_table
from buckler.cli.host import enforcement, host_lines, hosts_table, token_lines
from buckler.cli.migration import task_line
from buckler.cli.output import Table, ago, as_json, as_yaml, fields, moment, plain_table
from buckler.cli.pool import behind, rogues_table, status_lines, unprotected_table
from buckler.cli.reach import matrix, pairs_table, ports_words, told_apart
from buckler.cli.revision import revisions_table, short_words
from buckler.cli.vm import history_table, shield_word, vms_table
from buckler.model.agentapi import TaskState
from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.answers import Outside, PortRange, Reach, ReachPair
from buckler.model.operatorapi.body import HostWait
from buckler.model.operatorapi.documents import DocumentItem
from buckler.model.operatorapi.hosts import JoinToken
from buckler.model.operatorapi.pool import PoolStatus, Rogue, Rollout, Unprotected
from buckler.model.operatorapi.revisions import ChangeCount, RevisionItem
from buckler.model.operatorapi.traffic import CounterItem, FlowItem
from buckler.model.operatorapi.vms import HistoryEntry, TaskView
from buckler.model.pool import HostState, ShieldMode
from tests.unit.cli.views import H1, NOW, WEB

REFUSAL = FlowRecord(
    at=NOW, host="h1", local="db1", peer="web1", direction="ingress", verdict="deny", reason="POLICY", protocol="TCP",
    source="10.0.0.11", destination="fd00::21", source_port=40000, destination_port=5432,
)  # fmt: skip


def test_plain_columns_stand_below_each_other_and_wide_ones_come_last() -> None:
    table = Table(("A", "LONGER"), (("xx", "y", "z"), ("x", "yyyyyyyy", "")), wide=("W",))
    assert plain_table(table).splitlines() == ["A    LONGER", "xx   y", "x    yyyyyyyy"]
    assert plain_table(table, wide=True).splitlines()[:2] == ["A    LONGER     W", "xx   y          z"]


def test_json_and_yaml_have_the_names_of_the_api() -> None:
    assert json.loads(as_json(WEB))["hasPassport"] is True
    assert yaml.safe_load(as_yaml(WEB)) == json.loads(as_json(WEB))


def test_times_in_words() -> None:
    assert [ago(NOW - seconds, NOW) for seconds in (0, 119, 120, 7200, 172800)] == ["0s", "119s", "2m", "2h", "2d"]
    assert ago(0, NOW) == "never"
    assert (moment(0), moment(NOW)) == ("-", "2027-01-15 08:00:00Z")


def test_values_stand_below_each_other() -> None:
    assert fields([("A", "1"), ("Longer", "2")]) == ["A:       1", "Longer:  2"]


def test_vms_table_says_where_a_vm_runs_and_how_it_is_shielded() -> None:
    text = plain_table(vms_table((WEB,)), wide=True)
    assert "shop     web1   h1     running   enforce   10.0.0.11,fd00::11" in text
    assert "app=shop,tier=web" in text


def test_a_vm_is_never_called_enforced_when_it_is_not() -> None:
    unadmitted = replace(WEB, interfaces=(*WEB.interfaces, replace(WEB.interfaces[0], admitted=False)))
    assert shield_word(WEB) == "enforce"
    assert shield_word(replace(WEB, mode=ShieldMode.OBSERVE)) == "observe"
    assert shield_word(unadmitted) == "closed"
    assert shield_word(replace(unadmitted, quarantined=True)) == "quarantined"


def test_describing_a_vm_tells_identity_interfaces_shield_and_policies() -> None:
    text = "\n".join(vm_lines(WEB))
    for fact in ("web1", WEB.id, WEB.uuid, "h1 (running)", "enforces", "52:54:00:00:00:01", "vnet0 on bridge br-front"):
        assert fact in text
    assert "tenant: policy/web" in text
    assert "none, so all is denied" in "\n".join(vm_lines(replace(WEB, policies=())))
    assert "nothing in, nothing out" in "\n".join(vm_lines(replace(WEB, quarantined=True)))
    assert "closed at 52:54:00:00:00:01" in "\n".join(
        vm_lines(replace(WEB, interfaces=(replace(WEB.interfaces[0], admitted=False),)))
    )


def test_describing_a_policy_names_the_vms_that_it_selects() -> None:
    document = {"kind": "Policy", "metadata": {"name": "web", "tenant": "shop"}, "spec": {"tier": "tenant"}}
    item = DocumentItem(document, etag="e1", revision=3, file="shop/web.yaml", line=12)
    text = "\n".join(document_lines(item, (WEB, replace(WEB, name="db1", policies=()))))
    assert "Selects:     web1\n" in text
    assert "shop/web.yaml:12" in text
    other_tenant = {**document, "metadata": {"name": "web", "tenant": "other"}}
    assert "no registered VM" in "\n".join(document_lines(replace(item, document=other_tenant), (WEB,)))


def test_documents_are_summed_up_by_kind() -> None:
    def row(kind: str, spec: dict[str, object]) -> str:
        return documents_table([DocumentItem({"kind": kind, "metadata": {"name": "x"}, "spec": spec}, "e", 1)]).rows[0][
            3
        ]

    assert row("Network", {"bridge": "br0", "vlan": 7, "cidrs": ["10.0.0.0/24"]}) == "bridge br0 vlan 7 10.0.0.0/24"
    assert row("VM", {"interfaces": [{"addresses": ["10.0.0.1"]}], "mode": "observe"}) == "observe 10.0.0.1"
    assert row("Policy", {"tier": "baseline", "order": 5, "description": "why"}) == "baseline order 5 enforce: why"
    web = {"selector": {}, "ports": [{"protocol": "TCP", "port": 443}], "description": "shop"}
    assert row("Service", web) == "443/TCP: shop"
    assert row("Service", {**web, "network": "lan", "virtualAddress": "10.0.0.9"}) == "443/TCP at 10.0.0.9 in lan: shop"


def test_several_documents_are_a_list_as_of_kubectl() -> None:
    assert list_of([DocumentItem({"kind": "VM"}, "e", 1)])["items"] == [{"kind": "VM"}]


def test_a_host_is_called_enforced_only_when_heard_and_up_to_date() -> None:
    assert enforcement(H1) == "enforced"
    assert enforcement(replace(H1, enforced=6)) == "behind"
    assert enforcement(replace(H1, connected=False)) == "lost"
    assert enforcement(replace(H1, seen_at=0)) == "never seen"
    assert enforcement(replace(H1, state=HostState.REVOKED)) == "revoked"


def test_hosts_show_what_is_wanted_and_what_is_enforced() -> None:
    assert plain_table(hosts_table((H1,), NOW)).splitlines()[1].split() == [
        "h1", "active", "enforced", "7", "7", "1", "1s", "-",
    ]  # fmt: skip
    text = "\n".join(host_lines(replace(H1, problems=("vnet3: no shield",)), NOW))
    assert "revision 7 in the kernel, 7 wanted" in text
    assert "  vnet3: no shield" in text


def test_status_names_hosts_that_are_behind_and_whom_a_rollout_waits_for() -> None:
    lost = replace(H1, name="h2", connected=False, enforced=5)
    waiting = Rollout(7, "close", (HostWait("h2", 7, 5, "not heard for 40s"),))
    pool = PoolStatus(pool="p", revision=7, version="0.1.0", at=NOW, hosts=(H1, lost), rollout=waiting, vms=2)
    assert behind(pool) == ["h2"]
    text = "\n".join(status_lines(pool, NOW, wide=False))
    assert "7, rolling out 7 (stage close)" in text
    assert "h2 is waited for: enforces 5, wanted 7 (not heard for 40s)" in text
    assert "enforced by every host" in "\n".join(
        status_lines(replace(pool, hosts=(H1,), rollout=None), NOW, wide=False)
    )
    assert "not enforced by h2" in "\n".join(status_lines(replace(pool, rollout=None), NOW, wide=False))


def test_a_revoked_host_is_not_waited_for() -> None:
    gone = replace(H1, name="h2", state=HostState.REVOKED)
    assert behind(PoolStatus(pool="p", revision=7, version="", at=NOW, hosts=(H1, gone))) == []


def test_unprotected_and_rogues_say_why_and_where() -> None:
    assert unprotected_table((Unprotected("web1", "shop", "h1", "observes only"),)).rows == (
        ("shop", "web1", "h1", "observes only"),
    )
    rogue = Rogue("u", "evil", "h1", "running", ("52:54:00:00:00:66",), ("br0",), NOW)
    assert "evil" in plain_table(rogues_table((rogue,)))
    twin = Rogue("u", "copy", "h2", "running", twin_of="web1")
    assert rogues_table((rogue, twin)).rows[1][4] == "web1"


def test_ports_in_words() -> None:
    everything = tuple(PortRange(name) for name in ("TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "any"))
    assert ports_words(()) == ""
    assert ports_words((PortRange("any"),)) == "all"
    assert ports_words(everything) == "all"
    assert ports_words(everything[:-1]) == "TCP; UDP; SCTP; ICMP; ICMPv6"
    assert ports_words((PortRange("any"), PortRange("TCP", 80, 80))) == "TCP 80; other protocols"
    assert ports_words((PortRange("TCP", 443, 443), PortRange("UDP"), PortRange("TCP", 80, 88))) == "TCP 80-88,443; UDP"
    assert ports_words((PortRange("ICMP", 8 << 8, 8 << 8 | 255),)) == "ICMP type 8"
    assert ports_words((PortRange("ICMP", 3 << 8 | 4, 3 << 8 | 4),)) == "ICMP type 3 code 4"


def test_the_matrix_has_senders_in_rows_and_shows_a_missing_pair_as_unknown() -> None:
    answer = Reach(7, ("a", "b"), (ReachPair("a", "b", (PortRange("TCP", 80, 80),)), ReachPair("b", "a")))
    assert matrix(answer).columns == ("FROM \\ TO", "a", "b")
    assert matrix(answer).rows == (("a", "", "TCP 80"), ("b", "·", ""))
    torn = Reach(7, ("a", "b", "c"), (*answer.pairs, ReachPair("c", "a")))
    assert ("c", "·", "?") in matrix(torn).rows
    assert pairs_table(answer.pairs).rows == (("a", "b", "TCP 80"),)


def test_answers_that_differ_outside_are_told_below_the_matrix_by_prefixes() -> None:
    office = Outside(("203.0.113.0/24",))
    others = Outside(("0.0.0.0/0", "::/0"), office.blocks)
    https = (PortRange("TCP", 443, 443),)
    pairs = (
        *(ReachPair("a", "b"), ReachPair("b", "a"), ReachPair("a", office, https), ReachPair("a", others)),
        *(ReachPair("b", "world", https), ReachPair("world", "a"), ReachPair("world", "b")),
        *(ReachPair("a", "host", https), ReachPair("b", "host"), ReachPair("host", "a"), ReachPair("host", "b")),
    )
    answer = Reach(7, ("a", "b", "host", "world"), pairs)
    assert matrix(answer).columns == ("FROM \\ TO", "a", "b", "host", "world")
    assert matrix(answer).rows == (
        ("a", "", "·", "TCP 443", "by prefix"),
        ("b", "·", "", "·", "TCP 443"),
        ("host", "·", "·", "", ""),
        ("world", "·", "·", "", ""),
    )
    assert pairs_table(told_apart(answer)).rows == (("a", "203.0.113.0/24", "TCP 443"),)
    assert ("a", "world except 203.0.113.0/24", "·") not in pairs_table(pairs).rows


def test_a_flow_names_both_ends_in_the_direction_of_the_packet() -> None:
    table = flows_table((FlowItem(1, REFUSAL),))
    assert table.rows[0][:6] == ("2027-01-15 08:00:00Z", "deny", "web1", "db1", "TCP 5432", "POLICY")
    assert "[fd00::21]:5432" in table.rows[0]
    assert because(replace(REFUSAL, policy="db", rule="no-web")) == "db/no-web"
    assert because(replace(REFUSAL, reason="observed")) == "only observed, no rule: default deny"
    for silent in ("", "policy"):
        assert because(replace(REFUSAL, reason=silent)) == "no rule: default deny"
    assert because(replace(REFUSAL, reason="no-member")) == "nobody stands behind the virtual address"
    through = flows_table((FlowItem(1, replace(REFUSAL, policy="db", rule="no-web", service="shop")),)).rows[0]
    assert through[5] == "db/no-web (through Service shop)"
    told = flows_table((FlowItem(1, replace(REFUSAL, protocol="tcp")),)).rows[0]
    assert (told[4], told[8]) == ("TCP 5432", "[fd00::21]:5432")
    ping = flows_table((FlowItem(1, replace(REFUSAL, protocol="icmpv6", destination_port=133 << 8)),)).rows[0]
    assert (ping[4], ping[8]) == ("icmpv6/133", "fd00::21")
    assert "10.0.0.11:40000" in flow_line(FlowItem(1, REFUSAL), wide=True)
    assert "10.0.0.11" not in flow_line(FlowItem(1, REFUSAL), wide=False)


def test_counters_show_the_busiest_first_and_keep_what_was_shed_apart() -> None:
    ends = ("web1", "db1", "ingress", "deny")
    items = (
        CounterItem(*ends, "", "", 2, 120, ("h1",)),
        CounterItem(*ends, "db", "no-web", 9, 540, ("h1", "h2")),
        CounterItem("", "", "", "shed", "", "", 5, 0, ("h1",)),
    )
    rows = counters_table(items).rows
    assert [row[:5] for row in rows] == [
        ("db1", "web1", "deny", "db/no-web", "9"),
        ("db1", "web1", "deny", "no rule: default deny or the shield's own law", "2"),
    ]
    assert rows[0][-1] == "h1, h2"


def test_a_migration_in_words() -> None:
    task = TaskView("t", "migrate", "web1", "h1", "h2", None)
    assert task_line(task) == "web1 waits for h1 to take the order"
    assert task_line(replace(task, state=TaskState.RUNNING, message="40 %")) == "web1 moves from h1 to h2: 40 %"
    assert task_line(replace(task, state=TaskState.DONE)) == "web1 moved from h1 to h2"
    assert task_line(replace(task, state=TaskState.FAILED, message="no room")) == "web1 not moved: no room"


def test_a_history_tells_time_and_words() -> None:
    entry = HistoryEntry(index=4, at=NOW, kind="vm.adopted", text="adopted into the pool")
    assert history_table((entry,)).rows[0][:3] == ("2027-01-15 08:00:00Z", "adopted into the pool", "4")


def test_a_token_comes_with_what_to_do_and_a_dry_run_has_none() -> None:
    assert "buckler agent join --controller https://c:7443 bjt1.x" in "\n".join(
        token_lines(JoinToken("bjt1.x", NOW, "https://c:7443"))
    )
    assert token_lines(JoinToken("", 0)) == ["a token would be made (dry run)"]


def test_a_strangers_name_cannot_steer_the_terminal() -> None:
    rogue = Rogue("u", "\x1b]0;owned\x07\n\u202eevil\x9b2J", "h1", "running")
    text = plain_table(rogues_table((rogue,)))
    assert text.count("\n") == 1
    assert not set(text) & set("\x1b\x07\u202e\x9b")
    assert json.loads(as_json(rogue))["name"] == rogue.name
    assert not set(as_json(rogue)) & set("\x1b\x07\u202e\x9b")


def test_a_revision_is_a_row_of_a_terminal_and_wide_has_it_whole() -> None:
    names = tuple(f"web-{number}" for number in range(20))
    item = RevisionItem(
        7, 1.8e9, "uid:0(root)", "apply", "because " * 20, True, (ChangeCount("VM", "configured", 20, names),)
    )
    table = revisions_table((item,))
    narrow, wide = plain_table(table), plain_table(table, wide=True)
    assert max(map(len, narrow.splitlines())) < 170
    assert "web-19" not in narrow
    assert "web-19" in wide
    assert item.comment.strip() in wide
    assert "20 VM configured" in narrow
    counts = (
        ChangeCount("VM", "created", 1, ("a",)),
        ChangeCount("Flow", "created", 2, ("b", "c")),
        ChangeCount("Network", "unchanged", 1, ("n",)),
    )
    assert short_words(replace(item, changes=counts)) == "VM, 2 Flow created"
    assert short_words(replace(item, changes=counts[2:])) == "only where it is written"
    assert (
        plain_table(revisions_table((replace(item, comment="short", changes=()),)))
        .splitlines()[1]
        .endswith("short     nothing")
    )
