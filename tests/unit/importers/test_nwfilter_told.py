"""Filters of libvirt that look like others, stand in chains, or are made to hurt: nothing is let through that libvirt drops."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckler.policy.importers.nwfilter.host import import_nwfilter
from buckler.policy.importers.nwfilter.standard import STANDARD, is_shipped
from buckler.policy.importers.nwfilter.tree import read_tree
from buckler.policy.importers.outcome import Effect, Import
from buckler.policy.source import Source
from tests.unit.importers.imported import Imported

SHIPPED = Path("/usr/share/libvirt/nwfilter")
ONE, TWO = "default/one", "default/two"


def domain(name: str, number: int, filters: str) -> str:
    reference = f"<filterref filter='{filters}'><parameter name='IP' value='10.0.0.{number}'/></filterref>"
    card = f"<interface type='bridge'><mac address='52:54:00:00:00:0{number}'/><source bridge='br0'/>"
    return f"<domain><name>{name}</name><devices>{card}{reference}</interface></devices></domain>"


def carried(*filters: str) -> tuple[Import, Imported]:
    texts = [*filters, domain("one", 1, "f"), domain("two", 2, "allow-arp")]
    result = import_nwfilter([Source(f"{index}.xml", text) for index, text in enumerate(texts)], "2030-01-01")
    return result, Imported(result)


def effects(result: Import, word: str) -> list[Effect]:
    found = [each for each in result.losses if word in each.what]
    assert all(each.file and each.line for each in found), found
    return [each.effect for each in found]


REFERS = "<filter name='f'><filterref filter='clean-traffic'/></filter>"
CLEAN = """<filter name='clean-traffic' chain='root'>
<uuid>1</uuid>
<filterref filter='no-mac-spoofing'/><filterref filter='no-ip-spoofing'/>
<rule action='accept' direction='out' priority='-650'><mac protocolid='ipv4'/></rule>
<filterref filter='allow-incoming-ipv4'/><filterref filter='no-arp-spoofing'/>
<rule action='accept' direction='inout' priority='-500'><mac protocolid='arp'/></rule>
<filterref filter='no-other-l2-traffic'/><filterref filter='qemu-announce-self'/>
{}</filter>"""


def test_libvirts_own_content_is_what_is_known_by_name():
    result, imported = carried(REFERS, CLEAN.format(""))
    assert Effect.NOTE in effects(result, "libvirt's filter clean-traffic")
    assert imported.reaches(TWO, ONE, "TCP", 22)
    assert imported.reaches(ONE, TWO, "TCP", 22)
    assert not imported.reaches("2001:db8::1", ONE, "TCP", 22)


@pytest.mark.parametrize(
    "more",
    [
        "<rule action='drop' direction='in' priority='-1000'><ip protocol='tcp' dstportstart='22'/></rule>",
        "<filterref filter='deny'/>",
        "<rule action='drop' direction='in'><tcp dstportstart='22'/></rule>",
    ],
)
def test_a_standard_name_with_other_content_is_read(more: str):
    deny = "<filter name='deny'><rule action='drop' direction='in'><tcp dstportstart='22'/></rule></filter>"
    result, imported = carried(REFERS, CLEAN.format(more), deny)
    assert not effects(result, "libvirt's filter clean-traffic")
    assert not imported.reaches(TWO, ONE, "TCP", 22)
    assert imported.reaches(TWO, ONE, "TCP", 80)


def test_a_part_of_a_standard_filter_that_was_edited_is_read():
    edited = "<filter name='no-mac-spoofing' chain='mac' priority='-800'><rule action='drop' direction='in'/></filter>"
    result, imported = carried(REFERS, edited)
    assert not imported.reaches(TWO, ONE, "TCP", 22)
    assert not imported.reaches(ONE, TWO, "TCP", 22)  # nothing comes in, no answer either
    assert effects(result, "drops answers")


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="libvirt's filters are not installed")
def test_what_libvirt_ships_is_known():
    for path in SHIPPED.glob("*.xml"):
        node, problems = read_tree(Source(path.name, path.read_text()))
        assert not problems
        assert node is not None
        assert path.stem in STANDARD
        assert is_shipped(node), path


def test_a_chain_is_asked_where_its_priority_says():
    sub = "<filter name='s' chain='ipv4' priority='{}'><rule action='drop' direction='in'><ip protocol='tcp'/></rule></filter>"
    top = "<filter name='f'><filterref filter='s'/><rule action='accept' direction='inout' priority='500'/></filter>"
    assert not carried(top, sub.format(-700))[1].reaches(TWO, ONE, "TCP", 22)
    assert carried(top, sub.format(600))[1].reaches(TWO, ONE, "TCP", 22)


def test_return_ends_its_chain_only():
    first = "<filter name='a' chain='ipv4'><rule action='return' direction='in'><ip protocol='tcp'/></rule></filter>"
    for name, place in (("mac", -810), ("mac", 0), ("ipv4-b", 0)):
        second = f"<filter name='b' chain='{name}' priority='{place}'><rule action='drop' direction='in'><ip/></rule></filter>"
        top = "<filter name='f'><filterref filter='a'/><filterref filter='b'/></filter>"
        assert not carried(top, first, second)[1].reaches(TWO, ONE, "TCP", 22)


def test_what_a_return_spares_for_a_later_chain_lets_nothing_through():
    inner = "<rule action='return' direction='in' priority='1'><ip protocol='tcp'/></rule>\n<rule action='accept' direction='in'/>"
    last = "<rule action='drop' direction='in' priority='900'><ip protocol='tcp'/></rule>"
    top = f"<filter name='f'><filterref filter='a'/>{last}</filter>"
    result, imported = carried(top, f"<filter name='a' chain='ipv4'>{inner}</filter>")
    assert effects(result, "spares") == [Effect.TIGHTENED] * 2
    assert not imported.reaches(TWO, ONE, "TCP", 22)
    assert imported.reaches(TWO, ONE, "UDP", 22)


@pytest.mark.parametrize("places", [("-700", "-700", "ipv4-a", "ipv4-b"), ("-700", "300", "ipv4", "ipv4")])
def test_of_chains_in_no_order_none_lets_through(places: tuple[str, str, str, str]):
    first, second, one, other = places
    accept = f"<filter name='a' chain='{one}' priority='{first}'><rule action='accept' direction='in' priority='1'/></filter>"
    drop = f"<filter name='b' chain='{other}' priority='{second}'><rule action='drop' direction='in'/></filter>"
    result, imported = carried("<filter name='f'><filterref filter='a'/><filterref filter='b'/></filter>", accept, drop)
    assert Effect.TIGHTENED in effects(result, "which chain comes first")
    assert not imported.reaches("203.0.113.1", ONE, "TCP", 22)


@pytest.mark.parametrize("attributes", ["chain='moon'", "chain='ipv4' priority='²'", "chain='mac' priority='-2000'"])
def test_a_chain_that_libvirt_does_not_know_denies(attributes: str):
    result, imported = carried(f"<filter name='f' {attributes}><rule action='accept' direction='inout'/></filter>")
    assert effects(result, "the chain") == [Effect.TIGHTENED]
    assert not imported.talks


def test_what_is_not_allowed_on_frames_is_denied_where_the_rest_is():
    names = "<filter name='f'><filterref filter='allow-arp'/><filterref filter='allow-dhcp'/>{}<filterref filter='no-other-l2-traffic'/></filter>"
    _result, imported = carried(names.format(""))
    assert not imported.talks
    assert "default/one" not in imported.outward
    _result, imported = carried(names.format("<filterref filter='allow-ipv4'/>"))
    assert imported.reaches(TWO, ONE, "TCP", 22)
    assert not imported.reaches("2001:db8::1", ONE, "TCP", 22)
    _result, imported = carried(names.format("<filterref filter='allow-ipv6'/>"))
    assert not imported.talks
    assert imported.reaches("2001:db8::1", ONE, "TCP", 22)
    assert not imported.reaches("203.0.113.1", ONE, "TCP", 22)


@pytest.mark.parametrize("state", ["ESTABLISHED", "ESTABLISHED,RELATED", "INVALID", "MOON"])
def test_dropping_what_stands_denies_all_and_is_told(state: str):
    body = f"<rule action='drop' direction='in'><tcp state='{state}'/></rule>"
    result, imported = carried(f"<filter name='f'>{body}</filter>")
    assert effects(result, "state") == [Effect.TIGHTENED]
    assert not imported.reaches(TWO, ONE, "TCP", 22)


@pytest.mark.parametrize(
    ("more", "goes_on"),
    [
        ("", False),
        ("<tcp state='ESTABLISHED,RELATED'/>", True),
        ("<all state='ESTABLISHED'/>", True),
        ("<udp state='ESTABLISHED'/>", False),
        ("<all-ipv6 state='ESTABLISHED'/>", False),
        ("<tcp state='ESTABLISHED' dstportstart='80'/>", False),
        ("<tcp state='RELATED'/>", False),
    ],
)
def test_what_only_begins_is_no_connection(more: str, goes_on: bool):
    standing = f"<rule action='accept' direction='inout' priority='1'>{more}</rule>" if more else ""
    begins = "<rule action='accept' direction='in' priority='2'><tcp state='NEW' dstportstart='22'/></rule>"
    shut = "<rule action='drop' direction='in' priority='3'><tcp/></rule>"
    result, imported = carried(f"<filter name='f'>{standing}{begins}{shut}</filter>")
    assert imported.reaches(TWO, ONE, "TCP", 22) is goes_on
    assert effects(result, "accepts what follows") == ([] if goes_on else [Effect.TIGHTENED])


@pytest.mark.parametrize(
    ("direction", "priority", "goes_on"), [("inout", 2, True), ("in", 1, False), ("out", 1, False), ("inout", 9, False)]
)
def test_what_begins_goes_on_only_where_both_directions_do_before(direction: str, priority: int, goes_on: bool):
    standing = f"<rule action='accept' direction='{direction}' priority='{priority}'><all state='ESTABLISHED'/></rule>"
    begins = "<rule action='accept' direction='in' priority='2'><tcp state='NEW' dstportstart='22'/></rule>"
    shut = "<rule action='drop' direction='out' priority='3'><tcp/></rule>"
    result, imported = carried(f"<filter name='f'>{standing}{begins}{shut}</filter>")
    assert imported.reaches(TWO, ONE, "TCP", 22) is goes_on
    assert bool(effects(result, "accepts what follows")) is not goes_on


def test_rules_on_frames_that_drop_answers_deny_what_is_answered():
    body = "<rule action='drop' direction='{}'><ip protocol='tcp'/></rule>"
    result, imported = carried(f"<filter name='f'>{body.format('in')}</filter>")
    assert effects(result, "drops answers") == [Effect.TIGHTENED]
    assert not imported.reaches(ONE, TWO, "TCP", 22)
    assert imported.reaches(ONE, TWO, "UDP", 22)
    assert not effects(carried(f"<filter name='f'>{body.format('inout')}</filter>")[0], "drops answers")


@pytest.mark.parametrize(
    ("part", "asked", "denied"),
    [
        ("<ip protocol='tcp' dstportstart='22'/>", ("TCP", 80), False),
        ("<ip protocol='tcp' dstportstart='1024' dstportend='65535'/>", ("TCP", 80), True),
        ("<ip protocol='udp' dstportstart='0' dstportend='65535'/>", ("UDP", 53), True),
        ("<ip srcipaddr='10.0.0.2'/>", ("TCP", 80), True),
        ("<ip srcipaddr='10.0.0.3'/>", ("TCP", 80), False),
        ("<ip dstipaddr='10.0.0.1'/>", ("TCP", 80), True),
        ("<tcp/>", ("TCP", 80), True),
        ("<tcp state='NEW'/>", ("TCP", 80), False),
        ("<tcp state='NEW,ESTABLISHED'/>", ("TCP", 80), True),
        ("<tcp state='NONE'/>", ("TCP", 80), True),
        ("<tcp dstportstart='22'/>", ("TCP", 80), False),
        ("<tcp dstportstart='1024' dstportend='65535'/>", ("TCP", 80), True),
        ("<tcp srcportstart='80'/>", ("TCP", 80), True),
        ("<all srcipaddr='10.0.0.2'/>", ("UDP", 53), True),
        ("<icmp type='0'/>", ("ICMP", 8), True),
        ("<icmp type='8'/>", ("ICMP", 8), False),
        ("<mac protocolid='ipv4'/>", ("TCP", 80), True),
    ],
)
def test_what_drops_packets_inward_drops_the_answers_to_what_goes_out(part: str, asked: tuple[str, int], denied: bool):
    for action in ("drop", "reject"):
        _result, imported = carried(f"<filter name='f'><rule action='{action}' direction='in'>{part}</rule></filter>")
        assert imported.reaches(ONE, TWO, *asked) is not denied


def test_an_inout_drop_behind_what_one_direction_is_spared_drops_its_answers():
    spared = "<rule action='accept' direction='out' priority='1'><ip protocol='tcp'/></rule>"
    both = "<rule action='drop' direction='inout' priority='2'><ip/></rule>"
    result, imported = carried(f"<filter name='f'>{spared}{both}</filter>")
    assert effects(result, "drops answers")
    assert not imported.reaches(ONE, TWO, "TCP", 80)
    back = "<rule action='accept' direction='in' priority='1'><ip protocol='tcp'/></rule>"
    _result, imported = carried(f"<filter name='f'>{spared}{back}{both}</filter>")
    assert imported.reaches(ONE, TWO, "TCP", 80)
    assert not imported.reaches(ONE, TWO, "UDP", 80)


@pytest.mark.parametrize("priority", ["--5", "²", "9" * 5000, "", "1001"])
def test_priorities_that_are_none_deny_first(priority: str):
    rules = f"<rule action='drop' direction='in' priority='{priority}'/><rule action='accept' direction='in' priority='-1000'/>"
    result, imported = carried(f"<filter name='f'>{rules}</filter>")
    assert not result.is_exact
    assert not imported.reaches(TWO, ONE, "TCP", 22)


def test_filters_that_fan_out_are_read_once_and_bounded():
    ten = [f"<filterref filter='t{n}'/>" * 10 for n in range(10)]
    chain = [f"<filter name='t{n}'>{ten[n + 1]}</filter>" for n in range(9)]
    last = "<filter name='t9'><rule action='drop' direction='in'><tcp dstportstart='22'/></rule></filter>"
    _result, imported = carried("<filter name='f'><filterref filter='t0'/></filter>", *chain, last)
    assert not imported.reaches(TWO, ONE, "TCP", 22)
    assert imported.reaches(TWO, ONE, "TCP", 80)
    many = "".join(f"<filterref filter='t0'><parameter name='X' value='{n}'/></filterref>" for n in range(200))
    result, imported = carried(f"<filter name='f'>{many}</filter>", *chain, last)
    assert Effect.TIGHTENED in effects(result, "more than 1000")
    assert not imported.talks


@pytest.mark.parametrize("word", ["2_2", "\uff12\uff12", "+22", " 22", "0o26", "9" * 5000, "²"])
def test_numbers_that_libvirt_does_not_take_allow_nothing(word: str):
    shut = "<rule action='drop' direction='inout' priority='900'><all/></rule>"
    body = f"<rule action='accept' direction='in'><tcp dstportstart='{word}'/></rule>{shut}"
    result, imported = carried(f"<filter name='f'>{body}</filter>")
    assert not result.is_exact
    assert not imported.talks


@pytest.mark.parametrize(
    ("more", "together"),
    [
        ("", True),
        ("<vlan><tag id='7'/></vlan>", False),
        ("<port isolated='yes'/>", False),
        ("<port isolated='no'/>", True),
    ],
)
def test_interfaces_that_do_not_see_each_other_are_in_networks_of_their_own(more: str, together: bool):
    texts = [
        domain(name, number, "").replace("<filterref", f"{more if number == 1 else ''}<filterref")
        for name, number in (("one", 1), ("two", 2))
    ]
    bare = [each[: each.index("<filterref")] + "</interface></devices></domain>" for each in texts]
    result = import_nwfilter([Source(f"{index}.xml", each) for index, each in enumerate(bare)], "2030-01-01")
    assert ((ONE, TWO) in Imported(result).talks) is together


def test_interfaces_on_no_bridge_share_a_network_with_nobody():
    card = "<interface type='{}'><mac address='52:54:00:00:00:0{}'/>{}</interface>"
    for kind, source in (("user", ""), ("direct", "<source dev='eth0' mode='bridge'/>"), ("ethernet", "")):
        texts = [
            f"<domain><name>{name}</name><devices>{card.format(kind, n, source)}</devices></domain>"
            for n, name in ((1, "one"), (2, "two"))
        ]
        result = import_nwfilter([Source(f"{index}.xml", each) for index, each in enumerate(texts)], "2030-01-01")
        assert not Imported(result).talks


SHUT = "<rule action='drop' direction='inout' priority='900'><all/></rule>"


@pytest.mark.parametrize(
    ("attributes", "asked"),
    [
        ("srcipaddr='10.0.0.0' srcipmask='0.0.0.255'", ("TCP", 80)),
        ("srcipaddr='10.0.0.0' srcipmask='255.0.255.0'", ("TCP", 80)),
        ("srcipaddr='$FROM' dstportstart='$PORT'", ("TCP", 81)),
    ],
)
def test_what_would_match_more_than_libvirt_matches_allows_nothing(attributes: str, asked: tuple[str, int]):
    values = [("FROM", "10.0.0.2"), ("FROM", "10.0.0.3"), ("PORT", "80"), ("PORT", "81")]
    parameters = "".join(f"<parameter name='{name}' value='{value}'/>" for name, value in values)
    inner = f"<filter name='g'><rule action='accept' direction='in'><tcp {attributes}/></rule>{SHUT}</filter>"
    result, imported = carried(f"<filter name='f'><filterref filter='g'>{parameters}</filterref></filter>", inner)
    assert not result.is_exact
    assert not imported.reaches(TWO, ONE, *asked)
