"""Imported network filters of libvirt let through what their rules let through, by brute force; what is unclear is denied."""

from __future__ import annotations

from typing import Any

import pytest

from buckler.policy.importers.nwfilter.host import import_nwfilter
from buckler.policy.importers.nwfilter.standard import STANDARD
from buckler.policy.importers.outcome import Import
from buckler.policy.source import Source
from tests.randompolicy import Chooser, Seeded, flag, pick
from tests.unit.importers.imported import Imported, unlike

pytestmark = pytest.mark.proof

Rule = dict[str, Any]
GUESTS = {"one": "10.0.0.1", "two": "10.0.0.2", "far": "10.1.0.9"}
OUTSIDE = ("10.0.0.77", "203.0.113.9")
BLOCKS = {
    "10.0.0.0/24": "10.0.0.",
    "10.0.0.2/32": "10.0.0.2",
    "203.0.113.0/255.255.255.0": "203.0.113.",
    "0.0.0.0/0": "",
}
ASKED = [("TCP", port) for port in (22, 80, 443)] + [("UDP", port) for port in (53, 80)]


def rule(choose: Chooser) -> Rule:
    tag = pick(choose, ("tcp", "tcp", "udp", "all", "ip"))
    made: Rule = {
        "action": pick(choose, ("accept", "drop", "accept", "reject", "return")),
        "direction": pick(choose, ("in", "out")),
        "tag": tag,
    }
    made |= {"priority": choose.number(0, 9) * 100, "attributes": {}, "ports": None, "blocks": {}}
    if tag in {"tcp", "udp"} and flag(choose):
        made["ports"] = pick(choose, ((22, 22), (50, 90), (443, 443)))
        made["attributes"] |= {"dstportstart": str(made["ports"][0]), "dstportend": str(made["ports"][1])}
    if tag == "ip" and flag(choose):
        made["proto"] = "tcp"
        made["attributes"] |= {"protocol": "tcp"}
    for side in ("src", "dst"):
        if flag(choose, 3):
            made["blocks"][side] = pick(choose, tuple(BLOCKS))
            address, _slash, mask = made["blocks"][side].partition("/")
            made["attributes"] |= {f"{side}ipaddr": address, f"{side}ipmask": mask}
    return made


def xml(rules: list[Rule], name: str, more: str = "") -> str:
    lines = [f"<filter name='{name}' chain='root'>", "<uuid>1</uuid>", more]
    for each in rules:
        attributes = " ".join(f"{key}='{value}'" for key, value in each["attributes"].items())
        lines.append(
            f"<rule action='{each['action']}' direction='{each['direction']}' priority='{each['priority']}'><{each['tag']} {attributes}/></rule>"
        )
    return "\n".join([*lines, "</filter>"])


def domain(name: str, filters: str, address: str | None) -> str:
    parameter = f"<parameter name='IP' value='{address}'/>" if address else ""
    reference = f"<filterref filter='{filters}'>{parameter}</filterref>" if filters else ""
    number = f"{sum(map(ord, name)) % 100:02}"
    card = f"<interface type='bridge'><mac address='52:54:00:00:00:{number}'/><source bridge='br0'/>{reference}</interface>"
    return f"<domain type='kvm'>\n<name>{name}</name>\n<devices>{card}</devices></domain>"


def matches(each: Rule, source: str, target: str, protocol: str, port: int) -> bool:
    if each["tag"] in {"tcp", "udp"} and each["tag"].upper() != protocol:
        return False
    if each.get("proto") and protocol != "TCP":
        return False
    if each["ports"] and not each["ports"][0] <= port <= each["ports"][1]:
        return False
    return all(
        end.startswith(BLOCKS[each["blocks"][side]]) if side in each["blocks"] else True
        for side, end in (("src", source), ("dst", target))
    )


OTHER = {"in": "out", "out": "in"}


def matches_answers(each: Rule, source: str, target: str, protocol: str) -> bool:
    """Say whether a rule matches what comes back, whichever port the client has."""
    return each["ports"] is None and matches(each, target, source, protocol, 0)


def side_says(rules: list[Rule], direction: str, source: str, target: str, protocol: str, port: int) -> str:
    """Frames first, connections then; in each the first match by priority, and what nothing matches passes.

    Frames are asked of the answers too. A rule that follows connections and refuses is put into both directions.
    """
    by_priority = sorted(rules, key=priority_of)
    for each in by_priority:
        if each["tag"] == "ip" and each["direction"] != direction and matches_answers(each, source, target, protocol):
            if each["action"] in {"drop", "reject"}:
                return "drop"
            break
    for frames in (True, False):
        for each in (one for one in by_priority if (one["tag"] == "ip") == frames):
            refuses = each["action"] in {"drop", "reject"}
            back = not frames and refuses and each["direction"] != direction
            if (each["direction"] == direction and matches(each, source, target, protocol, port)) or (
                back and matches_answers(each, source, target, protocol)
            ):
                if refuses:
                    return "drop" if frames else str(each["action"])  # ebtables has no answer
                break
    return ""


def test_every_verdict_of_generated_filters():
    asked, answers = 0, []
    for seed in range(60):
        choose = Seeded(seed)
        held = {name: [rule(choose) for _ in range(choose.number(0, 4))] for name in GUESTS}
        shared = [rule(choose) for _ in range(choose.number(0, 2))]
        sources = [Source("common.xml", xml(shared, "common"))]
        for name, address in GUESTS.items():
            sources.append(
                Source(
                    f"{name}-filter.xml",
                    xml(held[name], f"f-{name}", "<filterref filter='common'/><filterref filter='no-mac-spoofing'/>"),
                )
            )
            sources.append(Source(f"{name}.xml", domain(name, f"f-{name}", address)))
        result = import_nwfilter(sources, "2030-01-01")
        assert not [each for each in unlike(result) if "drops answers" not in each.what], result.losses
        imported = Imported(result)
        rules = {name: shared + own for name, own in held.items()}
        ends = [*GUESTS, *OUTSIDE]
        for source in ends:
            for target in ends:
                if source == target or not {source, target} & set(GUESTS):
                    continue
                addresses = [GUESTS.get(each, each) for each in (source, target)]
                for protocol, port in ASKED:
                    told = [
                        side_says(rules[end], way, *addresses, protocol, port)
                        for end, way in ((source, "out"), (target, "in"))
                        if end in rules
                    ]
                    refused = next(filter(None, told), "")
                    said = imported.reaches(
                        *(f"default/{each}" if each in GUESTS else each for each in (source, target)), protocol, port
                    )
                    assert said == (not refused), (seed, source, target, protocol, port)
                    asked += 1
                    if refused and asked % 3 == 0:
                        ends_ = [f"default/{each}" if each in GUESTS else each for each in (source, target)]
                        assert imported.answers(*ends_, protocol, port) == (refused == "reject"), (seed, source, target)
                        answers.append(refused)
    assert asked == 60 * 18 * len(ASKED)
    assert min(answers.count(each) for each in ("drop", "reject")) > 30


CHAINS = {"root": 0, "mac": -800, "ipv4": -700, "ipv4-own": 300, "arp": -500, "ipv6": -600}


def frames_say(rules: list[Rule], source: str, target: str, protocol: str, port: int) -> str:
    """Walk the root chain: rules and jumps by priority, jumps first; ``return`` ends a chain only."""
    steps = sorted(
        [(each["priority"], 1, "root", each) for each in rules if each["chain"] == "root"]
        + [(CHAINS[name], 0, name, None) for name in {each["chain"] for each in rules} - {"root", "arp", "ipv6"}],
        key=lambda each: each[:2],
    )
    for _priority, _kind, name, alone in steps:
        held = [alone] if alone else sorted((each for each in rules if each["chain"] == name), key=priority_of)
        for each in held:
            if matches(each, source, target, protocol, port):
                if each["action"] != "return":
                    return "" if each["action"] == "accept" else "drop"
                if name == "root":
                    return ""
                break
    return ""


def priority_of(each: Rule) -> int:
    return int(each["priority"])


def test_chains_of_frames_stand_where_libvirt_jumps_to_them():
    asked = exact = refusals = 0
    for seed in range(80):
        choose = Seeded(seed)
        rules = []
        for _ in range(choose.number(2, 7)):
            made = rule(choose) | {"tag": "ip", "ports": None, "chain": pick(choose, tuple(CHAINS))}
            made["attributes"] = {key: value for key, value in made["attributes"].items() if "port" not in key}
            rules.append(made)
        texts = [domain(name, "f" if name == "one" else "", GUESTS[name]) for name in GUESTS]
        parts = "".join(f"<filterref filter='{chain}'/>" for chain in CHAINS if chain != "root")
        texts.append(xml([each for each in rules if each["chain"] == "root"], "f", parts))
        for chain, place in CHAINS.items():
            if chain != "root":
                text = xml([each for each in rules if each["chain"] == chain], chain)
                texts.append(text.replace("chain='root'", f"chain='{chain}' priority='{place}'"))
        result = import_nwfilter([Source(f"{index}.xml", each) for index, each in enumerate(texts)], "2030-01-01")
        imported, stricter = Imported(result), any("spares" in each.what for each in result.losses)
        for source, target in [("one", end) for end in OUTSIDE] + [(end, "one") for end in OUTSIDE]:
            way = "out" if source == "one" else "in"
            ends = [f"default/{each}" if each == "one" else each for each in (source, target)]
            for protocol, port in ASKED:
                mine = [each for each in rules if each["direction"] == way]
                back = [each for each in rules if each["direction"] != way]
                here, there = (GUESTS.get(each, each) for each in (source, target))
                refused = frames_say(mine, here, there, protocol, port) or frames_say(back, there, here, protocol, 0)
                said = imported.reaches(*ends, protocol, port)
                assert not (said and refused), (seed, source, target, protocol, port)
                assert stricter or said == (not refused), (seed, source, target, protocol, port)
                asked, exact, refusals = asked + 1, exact + (not stricter), refusals + bool(refused)
    assert asked == 80 * 4 * len(ASKED)
    assert exact > asked // 2
    assert refusals > asked // 10


def carried(body: str, *more: str, address: bool = True, name: str = "f") -> tuple[Import, Imported]:
    texts = [f"<filter name='{name}'>\n{body}\n</filter>", *more] if body else list(more)
    texts += [domain("one", name, GUESTS["one"] if address else None), domain("two", "allow-arp", GUESTS["two"])]
    result = import_nwfilter([Source(f"{index}.xml", text) for index, text in enumerate(texts)], "2030-01-01")
    return result, Imported(result)


DROP = "\n<rule action='drop' direction='inout' priority='1000'><all/></rule>"


@pytest.mark.parametrize(
    "rule",
    [
        "<rule action='accept' direction='in'><tcp srcportstart='7'/></rule>",
        "<rule action='accept' direction='in'><tcp dstportstart='9' dstportend='8'/></rule>",
        "<rule action='accept' direction='in'><tcp match='no' srcipaddr='10.0.0.2'/></rule>",
        "<rule action='accept' direction='in'><tcp srcipaddr='$NOBODY'/></rule>",
        "<rule action='accept' direction='in' statematch='false'><tcp/></rule>",
        "<rule action='accept' direction='inout'><tcp dstportstart='80'/></rule>",
        "<rule action='accept' direction='in'><tcp connlimit-above='1'/></rule>",
        "<rule action='accept' direction='in'><tcp ipset='x'/></rule>",
        "<rule action='accept' direction='in'><esp/></rule>",
    ],
)
def test_what_is_unclear_allows_nothing(rule):
    result, imported = carried(rule + DROP)
    assert not result.is_exact
    assert any(each.line in {2, 3} for each in result.losses), result.losses
    assert not imported.reaches("default/two", "default/one", "TCP", 80)


@pytest.mark.parametrize(
    "rule",
    [
        "<rule action='drop' direction='in'><tcp srcportstart='7'/></rule>",
        "<rule action='drop' direction='in'><mac srcmacaddr='52:54:00:00:00:01'/></rule>",
        "<rule action='drop' direction='in'><moon/></rule>",
        "<rule action='explode' direction='in'><tcp/></rule>",
        "<rule action='drop' direction='sideways'><tcp/></rule>",
        "<filterref filter='missing'/>",
        "<comet/>",
    ],
)
def test_what_may_deny_denies(rule):
    result, imported = carried(rule)
    assert not result.is_exact
    assert not imported.reaches("default/two", "default/one", "TCP", 80)


def test_nothing_is_filtered_where_nothing_is_referred_to():
    result, imported = carried("", name="")
    assert result.is_exact
    assert imported.talks["default/one", "default/two"] == "all"


def test_clean_traffic_is_what_a_shield_does_but_for_ipv6():
    result, imported = carried("", name="clean-traffic")
    assert imported.reaches("default/two", "default/one", "TCP", 80)
    assert not imported.reaches("default/one", "2001:db8::1", "TCP", 80)
    assert sorted(each.effect for each in result.losses if "one" in each.subject) == ["note", "tightened"]
    assert not imported.draft.pool.networks[0].link_local


@pytest.mark.parametrize("name", sorted(STANDARD))
def test_every_standard_filter_is_told(name):
    result, _imported = carried("", name=name)
    assert any(name in each.what for each in result.losses)


def test_a_filter_of_a_standard_name_with_rules_of_its_own_is_read():
    _result, imported = carried("<rule action='drop' direction='in'><tcp/></rule>", name="clean-traffic")
    assert not imported.reaches("default/two", "default/one", "TCP", 80)
    assert imported.reaches("default/two", "default/one", "UDP", 80)


def test_variables_have_the_values_of_the_reference():
    body = "<rule action='accept' direction='in'><tcp srcipaddr='$PEER' dstportstart='80'/></rule>" + DROP
    inner = f"<filter name='inner'>{body}</filter>"
    _result, imported = carried(
        "<filterref filter='inner'><parameter name='PEER' value='10.0.0.2'/></filterref>", inner
    )
    assert imported.reaches("default/two", "default/one", "TCP", 80)
    assert not imported.reaches("10.0.0.77", "default/one", "TCP", 80)


def test_hostile_xml_is_refused():
    bomb = "<!DOCTYPE a [<!ENTITY x 'y'>]><filter name='f'>&x;</filter>"
    for text in (bomb, "<filter", "<a>" * 100 + "</a>" * 100, ""):
        assert import_nwfilter([Source("x.xml", text)], "2030-01-01").unreadable
