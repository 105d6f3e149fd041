"""What no policy decides is told as the shield does it: addresses that no packet may carry, control traffic, impossible packets."""

from __future__ import annotations

import pytest

from buckler.policy.documents import read_documents
from buckler.policy.draft import Draft, draft_pool
from buckler.policy.explain import NoSuchPacket, explain
from buckler.policy.packet import Packet
from buckler.policy.pairs import answer_reach
from buckler.policy.reachdiff import diff_reach
from buckler.policy.reference import judge
from buckler.policy.source import Source
from tests.unit.policy.test_reachdiff import ENDPOINT, HEAD, SERVED, vm

OPEN = (
    f"{HEAD}kind: Policy\nmetadata: {{name: open}}\nspec: {{description: d, owner: o, reason: r, review: '2030-01-01', "
    "subject: {}, ingress: [{name: all, action: allow}], egress: [{name: all, action: allow}]}\n"
)
LOOP = OPEN.replace("name: open", "name: loop").replace(
    "egress: [{name: all, action: allow}]", "egress: [{name: all, action: deny, to: [{cidr: 127.0.0.0/8}]}]"
)


def draft(*more: str) -> Draft:
    reading = read_documents(
        [Source("open.yaml", "".join([SERVED, vm(1, "a"), vm(2, "b", "observe"), ENDPOINT, *more]))]
    )
    assert not reading.problems
    return draft_pool(reading.documents)


WORLD = draft(OPEN)


def told(origin: str, to: str, protocol: str = "TCP", port: int = 80) -> tuple[str, str]:
    answer = explain(WORLD.pool, WORLD.documents, origin, to, protocol, port)
    return answer.verdict, " ".join(side.text for path in answer.paths for side in path.sides)


@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.0.9", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "nobody's address"),
        ("::", "nobody's address"),
        ("::ffff:192.0.2.1", "ask about 192.0.2.1"),
    ],
)
def test_an_address_that_no_packet_may_carry_is_refused_whatever_policies_say(
    name: str, address: str, why: str
) -> None:
    for ends in ((name, address), (address, name)):
        verdict, text = told(*ends)
        assert verdict == "deny"
        assert why in text
    own = "10.0.0.2" if name == "v1" else "10.0.0.3"
    for one, other in ((own, address), (address, own)):
        assert not judge(WORLD.pool, WORLD.documents, Packet("front", one, other, 6, 80)).passes
    asked = answer_reach(WORLD, 1, to=address)
    assert asked.pairs == ()
    assert "no packet passes" in asked.notes[0]


@pytest.mark.parametrize("address", ["224.0.0.1", "255.255.255.255", "ff02::1"])
def test_no_packet_comes_from_a_group(address: str) -> None:
    verdict, text = told(address, "v1")
    assert verdict == "deny"
    assert "no packet comes from one" in text
    assert answer_reach(WORLD, 1, origin=address).pairs == ()


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::9", "240.0.0.1", "0.0.0.1", "192.0.2.1"])
def test_what_the_shield_leaves_to_policy_is_policys(address: str) -> None:
    assert told("v1", address)[0] == "allow"


def test_nobody_sends_to_itself() -> None:
    for ends in (("v1", "v1"), ("v1", "10.0.0.2"), ("10.0.0.2", "10.0.0.2"), ("v2", "v2")):
        verdict, text = told(*ends)
        assert verdict == "deny"
        assert "within the VM" in text


def test_a_prefix_of_such_addresses_is_in_no_list_and_cuts_none() -> None:
    (pair,) = (each for each in answer_reach(draft(OPEN, LOOP), 1, origin="v1").pairs if each.to == "world")
    assert pair.allowed
    assert diff_reach(draft(OPEN), draft(OPEN, LOOP)).pairs == ()


@pytest.mark.parametrize(
    ("ends", "protocol", "why"),
    [
        (("v1", "8.8.8.8"), "ICMPv6", "ask about icmp,"),
        (("v1", "2001:db8::1"), "ICMP", "ask about icmpv6,"),
        (("v1", "10.0.9.9"), "ICMPv6", "IPv4"),
        (("v1", "printer"), "ICMPv6", "printer has nothing else"),
        (("v1", "host"), "ICMPv6", "host has nothing else"),
        (("10.0.0.2", "2001:db8::1"), "TCP", "no packet has both ends"),
        (("v1", "2001:db8::1"), "2", "2 is not sent over IPv6"),
    ],
)
def test_a_packet_that_cannot_be_is_refused_with_what_to_ask(ends: tuple[str, str], protocol: str, why: str) -> None:
    for one, other in (ends, ends[::-1]):
        with pytest.raises(NoSuchPacket, match=why):
            told(one, other, protocol, 128 << 8)


@pytest.mark.parametrize(
    ("protocol", "kind", "verdict", "why"),
    [
        ("ICMP", 5, "deny", "redirects never pass"),
        ("ICMPv6", 137, "deny", "redirects never pass"),
        ("ICMP", 3, "deny", "speaks of a connection"),
        ("ICMPv6", 2, "deny", "speaks of a connection"),
        ("ICMPv6", 135, "allow", "neighbour discovery"),
        ("ICMPv6", 143, "allow", "memberships"),
        ("2", 0, "allow", "memberships"),
        ("ICMP", 8, "allow", "rule all"),
        ("ICMP", 13, "allow", "rule all"),
    ],
)
def test_control_traffic_is_told_as_the_shield_judges_it(protocol: str, kind: int, verdict: str, why: str) -> None:
    found, text = told("v1", "v2", protocol, kind << 8)
    assert found == verdict
    assert why in text


def test_an_echo_reply_is_an_answer_and_passes_alone_where_a_shield_only_observes() -> None:
    assert told("v1", "v2", "ICMP", 0)[0] == "deny"
    assert told("v2", "192.0.2.1", "ICMP", 0)[0] == "allow"


def test_what_a_pass_kept_from_being_asked_is_named() -> None:
    passing = OPEN.replace("name: open", "name: early").replace("subject", "order: 5, subject").replace("allow", "pass")
    world = draft(OPEN, passing)
    (path,) = explain(world.pool, world.documents, "v1", "192.0.2.1", "TCP", 80).paths
    assert path.verdict == "deny"
    assert "Rule all of policy open in the tenant tier (open.yaml line" in path.sides[0].text
    assert "was not asked: a pass ends its tier" in path.sides[0].text
