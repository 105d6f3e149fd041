"""DNS as guests and resolvers send it: what is taken of an answer, and what attacks leave."""

from __future__ import annotations

import random
import struct

import dns.flags
import dns.message
import dns.rrset
import pytest

from buckler.agent.dns import MAX_ADDRESSES, Answer, Question, read_answer, read_query
from buckler.agent.lookups import MAX_OPEN_PER_TAP, Lookups, PendingNames
from buckler.agent.names import Meant, Names
from buckler.model.agentapi import ClaimOutcome, NameClaim
from buckler.model.bundle import Endpoint
from buckler.model.ids import Digest, IdentityNumber, VmId, VmNumber, Zone
from buckler.model.shield import Tap
from buckler.ports.claims import ClaimSource, SeenClaim

NAME = "www.example.org"
SECOND = 10**9


def query(name: str = NAME, kind: str = "A", identifier: int = 7) -> dns.message.Message:
    made = dns.message.make_query(name, kind, id=identifier)
    assert isinstance(made, dns.message.Message)
    return made


def answer(*lines: str, name: str = NAME, kind: str = "A", identifier: int = 7, section: str = "answer") -> bytes:
    made = dns.message.make_response(query(name, kind, identifier))
    for line in lines:
        owner, ttl, rdclass, rdtype, *data = line.split()
        getattr(made, section).append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, *data))
    return made.to_wire()


def asked(name: str = NAME, kind: str = "A", identifier: int = 7) -> Question:
    found = read_query(query(name, kind, identifier).to_wire())
    assert found is not None
    return found


def test_a_query_is_read_and_its_answer() -> None:
    assert asked().name == NAME
    told = answer(f"{NAME}. 60 IN A 192.0.2.1", f"{NAME}. 60 IN A 192.0.2.2")
    assert read_answer(told, asked()) == Answer(("192.0.2.1", "192.0.2.2"), 60)
    six = answer(f"{NAME}. 60 IN AAAA 2001:db8::1", kind="AAAA")
    assert read_answer(six, asked(kind="AAAA")) == Answer(("2001:db8::1",), 60)


def test_a_dot_within_a_label_parts_no_labels() -> None:
    """Whoever may set names of one label below a zone would else answer for names of several (RFC 2181, 11)."""
    one = query("db\\.prod.example.org").to_wire()
    assert b"\x07db.prod\x07example" in one
    assert read_query(one) is None
    assert read_query(query("db.prod.example.org").to_wire()) is not None


def test_aliases_are_followed_and_the_shortest_life_counts() -> None:
    told = answer(
        f"{NAME}. 300 IN CNAME a.cdn.example.",
        "a.cdn.example. 20 IN CNAME b.cdn.example.",
        "b.cdn.example. 90 IN A 192.0.2.1",
    )
    assert read_answer(told, asked()) == Answer(("192.0.2.1",), 20)


@pytest.mark.parametrize("lines", [
    ["evil.example. 60 IN A 192.0.2.66"],
    [f"{NAME}. 60 IN CNAME a.example.", "b.example. 60 IN A 192.0.2.66"],
    [f"{NAME}. 60 IN CNAME a.example.", f"a.example. 60 IN CNAME {NAME}."],
    [f"{NAME}. 60 IN CNAME {NAME}."],
    [f"{NAME}. 60 IN CNAME a.example.", f"{NAME}. 60 IN A 192.0.2.66", "a.example. 60 IN A 192.0.2.67"],
    [f"{NAME}. 60 IN AAAA 2001:db8::66"],
    [f"{NAME}. 60 IN TXT x"],
    [f"{NAME}. 60 IN CNAME a1.example.", *[f"a{n}.example. 60 IN CNAME a{n + 1}.example." for n in range(1, 12)], "a12.example. 60 IN A 192.0.2.66"],
    [f"{NAME}. 60 IN A 192.0.2.{n}" for n in range(1, MAX_ADDRESSES + 2)],
    [],
])  # fmt: skip
def test_what_does_not_lead_from_the_asked_name_to_addresses_gives_none(lines: list[str]) -> None:
    assert read_answer(answer(*lines), asked()) is None


def test_two_aliases_of_one_name_lead_nowhere() -> None:
    made = dns.message.make_response(query())
    made.answer.append(dns.rrset.from_text(f"{NAME}.", 60, "IN", "CNAME", "a.example."))
    wire = made.to_wire()
    record = wire[-(len(wire) - len(dns.message.make_response(query()).to_wire())) :]
    twice = wire[:6] + struct.pack(">H", 2) + wire[8:] + record.replace(b"\1a\7example", b"\1b\7example")
    assert read_answer(twice, asked()) is None


@pytest.mark.parametrize("section", ["additional", "authority"])
def test_only_the_answer_section_answers(section: str) -> None:
    assert read_answer(answer(f"{NAME}. 60 IN A 192.0.2.66", section=section), asked()) is None


def test_only_an_answer_to_this_very_question_counts() -> None:
    good = f"{NAME}. 60 IN A 192.0.2.1"
    assert read_answer(answer(good, identifier=8), asked()) is None
    assert read_answer(answer(good, name="other.example.org"), asked()) is None
    assert read_answer(answer(good, kind="AAAA"), asked()) is None
    assert read_answer(query().to_wire(), asked()) is None
    mixed = asked("wWw.eXample.org")
    assert mixed.name == NAME
    assert read_answer(answer(good, name="wWw.eXample.org"), mixed) is not None
    assert read_answer(answer(good), mixed) is None, "written in another case: not by who saw the question"


def test_errors_and_cut_answers_give_nothing() -> None:
    good = dns.message.from_wire(answer(f"{NAME}. 60 IN A 192.0.2.1"))
    for rcode in (2, 3, 5):
        good.set_rcode(rcode)
        assert read_answer(good.to_wire(), asked()) is None
    good.set_rcode(0)
    good.flags |= dns.flags.TC
    assert read_answer(good.to_wire(), asked()) is None
    whole = answer(f"{NAME}. 60 IN A 192.0.2.1")
    for length in range(len(whole)):
        assert read_answer(whole[:length], asked()) is None
    assert read_answer(whole + b"\0", asked()) is None
    assert read_answer(whole.ljust(2000, b"\0"), asked()) is None


def test_an_answer_without_a_question_or_with_two_counts_not() -> None:
    made = dns.message.from_wire(answer(f"{NAME}. 60 IN A 192.0.2.1"))
    made.question = []
    assert read_answer(made.to_wire(), asked()) is None
    wire = answer(f"{NAME}. 60 IN A 192.0.2.1")
    question = wire[12 : 12 + len(NAME) + 2 + 4]
    assert read_answer(wire[:4] + b"\0\2" + wire[6:12] + question + wire[12:], asked()) is None


@pytest.mark.parametrize("name", ["localhost", "*.example.org", "a_b.example.org", "1.2.3.4", "xn--.example"])
def test_names_that_no_policy_can_mean_are_not_asked(name: str) -> None:
    assert read_query(query(name).to_wire()) is None


@pytest.mark.parametrize("kind", ["ANY", "TXT", "CNAME", "HTTPS", "PTR"])
def test_only_addresses_are_asked_for(kind: str) -> None:
    assert read_query(query(kind=kind).to_wire()) is None


def test_compression_is_no_bomb() -> None:
    head = struct.pack(">HHHHHH", 7, 0x8180, 1, 60, 0, 0)
    question = query().to_wire()[12 : 12 + len(NAME) + 2 + 4]
    to_itself = struct.pack(">H", 0xC000 | 12 + len(question)) + struct.pack(">HHIH", 1, 1, 60, 4) + bytes(4)
    onwards = b"\xc0\xff" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes(4)
    long_chain = b"".join(b"\x01a" + struct.pack(">H", 0xC000 | 12 + len(question) + 4 * n) for n in range(200))
    for rest in (to_itself * 60, onwards * 60, long_chain):
        assert read_answer((head + question + rest)[:1024], asked()) is None


@pytest.mark.proof
def test_noise_never_hurts() -> None:
    chance = random.Random(5)
    whole = answer(f"{NAME}. 60 IN CNAME a.example.", "a.example. 60 IN A 192.0.2.1")
    for _ in range(20_000):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        read_query(bytes(raw))
        found = read_answer(bytes(raw), asked())
        assert found is None or all(len(each) < 16 for each in found.addresses)


VM, MAC = VmId("vm-1"), "52:54:00:00:00:01"
RESOLVER, OTHER = b"\0" * 10 + b"\xff\xff\x0a\x09\x00\x35", b"\0" * 10 + b"\xff\xff\x0a\x09\x00\x36"
MINE = b"\0" * 10 + b"\xff\xff\x0a\x09\x00\x01"
TAPS = {11: Tap(11, VmNumber(1), MAC, Zone(3), 0, IdentityNumber(9), (), Digest("d")),
        12: Tap(12, VmNumber(2), MAC, Zone(3), 0, IdentityNumber(9), (), Digest("d"))}  # fmt: skip
NAMES = Names({}, {1: Endpoint(VM, VmNumber(1), "web", "t", "u", MAC, (), IdentityNumber(9), Digest("d")),
                   2: Endpoint(VmId("vm-2"), VmNumber(2), "two", "t", "v", MAC, (), IdentityNumber(9), Digest("d"))}, {})  # fmt: skip
MEANT = {Zone(3): Meant(("*.example.org",), frozenset({"10.9.0.53"}))}


def seen(source: ClaimSource, message: bytes, at: int = 0, *, port: int = 4000, ifindex: int = 11, vm: int = 1,
         resolver: bytes = RESOLVER) -> SeenClaim:  # fmt: skip
    return SeenClaim(at, ifindex, vm, source, MINE, resolver, message, port)


def ask(name: str = NAME, at: int = 0, identifier: int = 7, **where: object) -> SeenClaim:
    return seen(ClaimSource.DNS_QUERY, query(name, identifier=identifier).to_wire(), at, **where)  # type: ignore[arg-type]


def tell(at: int = SECOND, identifier: int = 7, name: str = NAME, **where: object) -> SeenClaim:
    message = answer(f"{name}. 60 IN A 192.0.2.1", identifier=identifier, name=name)
    return seen(ClaimSource.DNS_ANSWER, message, at, **where)  # type: ignore[arg-type]


def match(*events: SeenClaim) -> list[NameClaim]:
    return Lookups().match(events, TAPS, NAMES, MEANT, 100.0)


def test_an_answer_to_a_question_is_told_once() -> None:
    wanted = NameClaim(VM, MAC, NAME, "192.0.2.1", 101.0, 60, "10.9.0.53")
    assert match(ask(), tell()) == [wanted]
    assert match(tell(), ask()) == [wanted], "in the order of their times"
    assert match(ask(), tell(), tell(2 * SECOND)) == [wanted], "a second answer is to no question"
    assert match(ask(), ask(at=1), tell()) == [wanted], "asked again"


@pytest.mark.parametrize("other", [
    {"port": 4001}, {"ifindex": 12, "vm": 2}, {"vm": 2}, {"resolver": OTHER}, {"identifier": 8}, {"at": 11 * SECOND},
])  # fmt: skip
def test_an_answer_from_beside_the_way_is_none(other: dict[str, object]) -> None:
    assert match(ask(), tell(**other)) == []  # type: ignore[arg-type]


def test_the_first_answer_ends_a_question_even_if_it_says_nothing() -> None:
    garbage = seen(ClaimSource.DNS_ANSWER, struct.pack(">H", 7) + b"garbage", SECOND // 2)
    assert match(ask(), garbage, tell()) == []


def test_names_that_no_policy_means_and_foreign_resolvers_are_not_told() -> None:
    assert match(ask("www.example.com"), tell(name="www.example.com")) == []
    assert match(ask("example.org"), tell(name="example.org")) == []
    assert match(ask(resolver=OTHER), tell(resolver=OTHER)) == []
    assert match(tell()) == []


def test_a_flood_of_questions_is_bounded_and_the_newest_stay() -> None:
    asks = [ask(at=number, identifier=number) for number in range(MAX_OPEN_PER_TAP + 50)]
    tells = [tell(SECOND, identifier=number) for number in range(MAX_OPEN_PER_TAP + 50)]
    assert len(match(*asks, *tells)) == MAX_OPEN_PER_TAP
    assert len(match(*asks, ask(ifindex=12, vm=2), tell(SECOND, ifindex=12, vm=2))) == 1, "another VM's is kept"


def claim(number: int, at: float = 1000.0, vm: str = "vm-1") -> NameClaim:
    return NameClaim(VmId(vm), MAC, NAME, f"192.0.2.{number}", at, 60, "10.9.0.53")


def test_what_was_taken_is_not_told_again_at_once() -> None:
    pending = PendingNames()
    assert pending.put([claim(1), claim(2)])
    waiting, _ = pending.oldest(10)
    pending.settle(waiting, (ClaimOutcome.GRANTED, ClaimOutcome.LATER), 0)
    assert not pending.put([claim(1, 1100.0)])
    assert [each.address for each in pending.oldest(10)[0]] == ["192.0.2.2"]
    assert pending.put([claim(1, 1301.0)])


def test_what_a_clock_that_was_ahead_told_is_told_again() -> None:
    pending = PendingNames()
    pending.put([claim(1, 5000.0)])
    pending.settle(pending.oldest(10)[0], (ClaimOutcome.GRANTED,), 0)
    assert pending.put([claim(1, 1000.0)])


def test_one_vm_does_not_fill_what_waits() -> None:
    pending = PendingNames()
    pending.put(NameClaim(VM, MAC, f"a{n}.example.org", "192.0.2.1", 1000.0, 60, "10.9.0.53") for n in range(1000))
    assert pending.put([claim(9, vm="vm-2")])
    assert pending.oldest(10_000)[1] == 1000 - 256
