from __future__ import annotations

from pathlib import Path

import click
import pytest

from buckler.cli.apply import (
    change_name,
    count_line,
    diff_lines,
    reach_lines,
    result_lines,
    sent_words,
    waiting_lines,
)
from buckler.cli.complete import KINDS
from buckler.cli.document import documents_table, get, kind_of, names_of, parse_labels, references_of
from buckler.cli.explain import explanation_lines, parse_port, port_words
from buckler.cli.reach import ports_words
from buckler.cli.session import Failed, exit_code_of, problem_lines
from buckler.cli.source import read_sources, references_in
from buckler.cli.vm import find_rogue, parse_interface
from buckler.model.operatorapi.answers import ExplainedPath, Explanation, PortRange, Side, Step
from buckler.model.operatorapi.body import HostWait, Issue, Problem
from buckler.model.operatorapi.documents import (
    Action,
    ApplyResult,
    Change,
    DiffResult,
    DocumentDiff,
    DocumentItem,
    Outside,
    ReachChange,
    ReachCount,
    Reference,
    SourceFile,
)
from buckler.model.operatorapi.pool import Rogue
from buckler.policy.language import Kind


def test_every_problem_is_told_with_its_place_and_hint() -> None:
    problem = Problem(
        "2 problems", 422, "nothing was applied",
        problems=(Issue("must be 1 to 65535", "a.yaml", 12, "spec.ingress[0]", "did you mean 443?"), Issue("no kind")),
    )  # fmt: skip
    assert problem_lines(problem) == [
        "2 problems: nothing was applied",
        "  a.yaml:12: spec.ingress[0]: must be 1 to 65535",
        "      hint: did you mean 443?",
        "  no kind",
    ]


@pytest.mark.parametrize(
    ("status", "code"), [(0, 3), (400, 1), (404, 1), (409, 1), (412, 1), (422, 1), (500, 3), (503, 3)]
)
def test_refused_and_unreachable_exit_differently(status: int, code: int) -> None:
    assert exit_code_of(Problem("x", status)) == code


def test_a_refused_diff_is_never_taken_for_a_difference() -> None:
    assert exit_code_of(Problem("x", 422), refused=2) == 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5432", ("TCP", 5432)),
        ("53/udp", ("UDP", 53)),
        ("udp/53", ("UDP", 53)),
        ("443/TCP", ("TCP", 443)),
        ("icmp", ("ICMP", 8 << 8)),
        ("icmpv6", ("ICMPv6", 128 << 8)),
        ("icmp/3.4", ("ICMP", 3 << 8 | 4)),
        ("icmpv6/135", ("ICMPv6", 135 << 8)),
    ],
)
def test_ports_are_read(text: str, wanted: tuple[str, int]) -> None:
    assert parse_port(text) == wanted


@pytest.mark.parametrize("text", ["", "http", "70000", "-1", "53/quic", "tcp", "icmp/300", "icmp/3.256", "1/2", "٣"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse_port(text)


def test_ports_are_written() -> None:
    assert port_words("TCP", 443) == "TCP 443"
    assert port_words("ICMP", 8 << 8) == "ICMP type 8 code 0 (echo request)"


def test_an_explanation_names_rule_tier_document_and_line_at_both_ends() -> None:
    egress = Side("web1", "egress", "allow", "it may", "tenant", "web", "to-db", "shop/web.yaml", 14)
    step = Step("baseline", "deny-all", "everything", "deny", "decides", "base.yaml", 3)
    ingress = Side("db1", "ingress", "deny", "no rule matches: denied by default", steps=(step,))
    path = ExplainedPath("back", "web1", "db1", "deny", (egress, ingress))
    answer = Explanation("web1", "db1", "TCP", 5432, "deny", "db1 does not let it in", (path,))
    lines = explanation_lines(answer, every_step=False)
    assert lines[0] == "web1 → db1, TCP 5432: DENIED"
    assert "    rule 'to-db' of policy 'web', tier tenant, written in shop/web.yaml:14" in lines
    assert "  receiver db1, ingress: deny" in lines
    assert not any("deny-all" in line for line in lines)
    assert "      baseline: deny-all/everything (deny): decides, written in base.yaml:3" in explanation_lines(
        answer, every_step=True
    )


def test_an_unknown_verdict_is_never_written_as_allowed() -> None:
    assert "DENIED" in explanation_lines(Explanation("a", "b", "TCP", 1, "whatever", ""), every_step=False)[0]


def test_kinds_and_names_in_both_spellings() -> None:
    assert names_of(("vms",)) == [("VM", "")]
    assert names_of(("policy", "a", "b")) == [("Policy", "a"), ("Policy", "b")]
    assert names_of(("vm/a", "net/b")) == [("VM", "a"), ("Network", "b")]
    for words in (("pod", "a"), ("vm/a", "b")):
        with pytest.raises(click.UsageError):
            names_of(words)


def test_a_change_needs_names() -> None:
    assert references_of(("flow", "f"), "") == (Reference("Flow", "f", "default"),)
    for words in (("vms",), ("all", "x"), ("vm/",)):
        with pytest.raises(click.UsageError):
            references_of(words, "shop")


def test_labels_to_set_and_to_remove() -> None:
    assert parse_labels(("tier=web", "note=", "old-")) == ({"tier": "web", "note": ""}, ("old",))
    for words in (("tier",), ("=web",), ("-",), ("a=b", "a-")):
        with pytest.raises(click.UsageError):
            parse_labels(words)


def test_interfaces_of_an_adoption() -> None:
    interface = parse_interface("52:54:00:AA:00:01=front,10.0.0.1,fd00::1")
    assert (interface.mac, interface.network) == ("52:54:00:aa:00:01", "front")
    assert interface.addresses == ("10.0.0.1", "fd00::1")
    for text in ("52:54:00:00:00:01", "=front", "52:54:00:00:00:01=", "52:54:00:00:00:01=front,"):
        with pytest.raises(click.UsageError):
            parse_interface(text)


def test_two_rogues_of_one_name_are_not_guessed_between() -> None:
    rogues = (
        Rogue("u1", "web", "h1", "running"),
        Rogue("u2", "web", "h2", "running"),
        Rogue("u3", "db", "h1", "running"),
    )
    assert find_rogue(rogues, "u2").host == "h2"
    assert find_rogue(rogues, "db").uuid == "u3"
    for wanted in ("web", "nobody"):
        with pytest.raises(Failed):
            find_rogue(rogues, wanted)


def test_results_of_a_change_say_whether_it_is_enforced() -> None:
    change = Change("Policy", "shop", "web", Action.CREATED)
    assert result_lines(ApplyResult(7, (change,)), waited=True) == [
        "policy/web (tenant shop) created",
        "revision 7 committed, and no host is behind",
    ]
    assert result_lines(ApplyResult(7, (change,)), waited=False)[-1] == "revision 7 committed"
    late = ApplyResult(7, (change,), waiting=(HostWait("h2", 7, 5, "not heard"),))
    assert result_lines(late, waited=True)[-1] == "revision 7 committed"
    assert waiting_lines(late.waiting)[1] == "  h2 enforces revision 5, wanted 7 (not heard)"
    assert result_lines(ApplyResult(0, (change,), dry_run=True), waited=True) == [
        "policy/web (tenant shop) created (dry run)"
    ]
    assert change_name(Change("VM", "default", "a", Action.UNCHANGED)) == "vm/a"


def test_a_diff_shows_lines_and_what_may_be_sent() -> None:
    result = DiffResult(
        (DocumentDiff("Flow", "default", "f", Action.CONFIGURED, {"spec": {"port": 80}}, {"spec": {"port": 81}}),),
        (ReachChange("a", "b", (), ("TCP 81",)),),
    )
    lines = diff_lines(result)
    assert "-  port: 80" in lines
    assert "+  port: 81" in lines
    assert lines[-1] == "  a → b: nothing ⇒ TCP 81"


def test_a_diff_names_addresses_outside_by_prefixes_and_of_many_the_widest() -> None:
    everywhere = ("0.0.0.0/0", "::/0")
    many = (*(f"192.0.2.{place}/32" for place in range(20)), "128.0.0.0/1")
    changes = (
        ReachChange(Outside(("198.51.100.0/24",)), "web", (), ("TCP 443",)),
        ReachChange("web", Outside(everywhere, ("198.51.100.0/24",)), (), ("any",)),
        ReachChange(Outside(many), "web", (), ("TCP 22",)),
    )
    told = reach_lines(DiffResult((), changes, count=ReachCount(3, 3)))
    assert told[2] == "  198.51.100.0/24 → web: nothing ⇒ TCP 443"
    assert told[3] == "  web → world except 198.51.100.0/24: nothing ⇒ all"
    assert told[4].startswith("  128.0.0.0/1, 192.0.2.0/32, ")
    assert " and 9 more → web" in told[4]


def test_folders_are_read_in_order_and_other_files_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.yaml", "a.yml", "sub/c.json", "notes.txt"):
        (tmp_path / name).write_text(f"# {name}\n")
    sources = read_sources([str(tmp_path), str(tmp_path / "b.yaml")])
    assert [Path(source.name).name for source in sources] == ["a.yml", "b.yaml", "c.json"]


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_unreadable_sources_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Failed):
        read_sources([str(path)])
    with pytest.raises(Failed):
        read_sources([str(tmp_path / "empty")])


def test_references_in_files_are_never_guessed() -> None:
    good = "kind: VM\nmetadata: {name: a}\n---\n---\nkind: Flow\nmetadata: {name: b, tenant: shop}\n"
    assert references_in([SourceFile("x", good)]) == (Reference("VM", "a"), Reference("Flow", "b", "shop"))
    for text in ("[1]", "kind: VM", "kind: VM\nmetadata: {name: 7}", "a: [", "metadata: {name: a}"):
        with pytest.raises(Failed):
            references_in([SourceFile("x", text)])


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (ReachCount(1, 1, 0), "1 pair differs: 1 gain"),
        (ReachCount(2, 1, 2), "2 pairs differ: 1 lose, 1 gain some and lose some"),
        (ReachCount(5, 3, 3), "5 pairs differ: 2 gain, 2 lose, 1 gain some and lose some"),
    ],
)
def test_each_pair_that_differs_is_counted_once(count: ReachCount, told: str) -> None:
    assert count_line(count) == told


def test_every_kind_of_document_has_its_words() -> None:
    assert set(KINDS.values()) == {each.value for each in Kind}
    for word, kind in KINDS.items():
        plural = word.removesuffix("y") + "ies" if word.endswith("y") else f"{word}s"
        assert kind_of(word) == kind_of(plural) == kind_of(kind) == kind
        assert word in (get.help or "")
    with pytest.raises(click.UsageError, match="Exception, or all"):
        kind_of("pods")


def test_documents_of_every_kind_are_summed_up_by_what_matters() -> None:
    specs = {
        "198.51.100.0/24": {"cidrs": ["198.51.100.0/24"]},
        "front 10.0.9.9: for paper": {"network": "front", "addresses": ["10.0.9.9"], "purpose": "for paper"},
        "443/TCP,8000-8009/TCP,ICMP: shop": {
            "selector": {},
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 8000, "endPort": 8009}, {"protocol": "ICMP"}],
            "description": "shop",
        },
        "observe: worms": {"trigger": {"refusals": 9}, "description": "worms"},
        "tenant allow web/ssh until 2030-01-01T00:00:00Z: repair": {
            "policy": "web", "rule": "ssh", "action": "allow", "until": "2030-01-01T00:00:00Z", "reason": "repair", "owner": "o",
        },
    }  # fmt: skip
    for told, spec in specs.items():
        item = DocumentItem({"kind": "X", "metadata": {"name": "n"}, "spec": spec}, "", 1)
        assert told in documents_table([item]).rows[0]


def test_what_may_be_sent_is_told_by_protocol_as_reach_tells_it() -> None:
    told = ("other", "ICMP type 8", "ICMP type 13 code 0", "TCP 0-442", "TCP 444-65535", "UDP")
    assert sent_words(told) == "TCP 0-442,444-65535; UDP; ICMP type 8,type 13 code 0; other protocols"
    assert (sent_words(("any",)), sent_words(())) == ("all", "nothing")
    assert ports_words((PortRange("other"), PortRange("TCP", 22, 22))) == "TCP 22; other protocols"
