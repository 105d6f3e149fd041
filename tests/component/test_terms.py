"""What holds beside a verdict: an end, a rate, being told, a staged draft. Packet by packet, in the real program."""

from __future__ import annotations

import time
from itertools import count

import msgspec
import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.reasons import Reason
from buckler.model.ids import IDENTITY_GROUP, Digest, RuleNumber
from buckler.model.pool import ShieldMode
from buckler.model.program import Direction, Entry, Terms, Verdict
from buckler.ports.shield import ShieldFailed
from buckler.ports.telemetry import PairCount, ShieldEvent, StagedCount
from tests import packets as p
from tests.component.ground import APP, SLOWNESS, WEB, Host, allow
from tests.component.test_connections import EGRESS, INGRESS, ONE, TWO, Tapped, shared, tapped

__all__ = ["shared", "tapped"]
LONG = 3600
PORTS = count(20000)


def on(terms: Terms, verdict: Verdict = Verdict.ALLOW, port: int = 80, protocol: int = 6, rule: int = 7) -> Entry:
    entry = allow(APP, EGRESS, protocol, port, 32 if port else 16, rule)
    return msgspec.structs.replace(entry, verdict=verdict, terms=terms)


def admit(tapped: Tapped, *entries: Entry, **changes: object) -> Digest:
    program = tapped.host.put_program(*entries)
    tapped.host.admit(tapped.ifindex, ONE, program, **changes)
    return program


def believe(host: Host) -> None:
    host.shield.keep_time(is_believed=True)


def ask(tapped: Tapped, port: int = 53) -> Reason:
    """A new UDP flow that differs from others in its source port alone."""
    return tapped.judge(EGRESS, p.ip_frame(ONE.v4, TWO.v4, 17, p.udp(next(PORTS), port)))


def soon(seconds: float = 2.0) -> int:
    """A whole second of the wall clock, not much later than so many seconds from now."""
    return int(time.time() + seconds * max(1.0, SLOWNESS / 4)) + 1


def later() -> int:
    """An end that no test lives to see."""
    return int(time.time()) + LONG


def wait_for(second: int) -> None:
    time.sleep(max(0.0, second - time.time()) + 0.02)


def test_an_allowance_and_its_connections_end_at_the_deadline_and_nothing_else_does(tapped: Tapped) -> None:
    believe(tapped.host)
    admit(tapped, allow(APP, EGRESS, 6, 443, 32, rule=8))
    end = soon(4)
    admit(
        tapped, on(Terms(until=end)), on(Terms(until=end), port=53, protocol=17), allow(APP, EGRESS, 6, 443, 32, rule=8)
    )
    tapped.shake_hands()
    assert ask(tapped) is Reason.NEW
    assert tapped.tcp(EGRESS, p.SYN, 1, port=443, local=4100) is Reason.NEW
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 1, 2, port=443, local=4100) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, 2, 2, port=443, local=4100) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    assert time.time() < end, "the machine was too slow to ask before the end"
    wait_for(end)
    assert ask(tapped) is Reason.EXPIRED
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.EXPIRED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.NO_CONNECTION
    assert tapped.tcp(EGRESS, p.SYN, 1, local=4001) is Reason.EXPIRED
    assert tapped.tcp(INGRESS, p.ACK, 2, 2, port=443, local=4100) is Reason.ESTABLISHED


def test_a_half_open_connection_ends_at_the_deadline_too(tapped: Tapped) -> None:
    believe(tapped.host)
    end = soon()
    admit(tapped, on(Terms(until=end)))
    assert tapped.tcp(EGRESS, p.SYN, 1000) is Reason.NEW
    wait_for(end)
    assert tapped.tcp(INGRESS, p.SYN | p.ACK, 5000, 1001) is Reason.EXPIRED


def test_an_error_about_an_ended_connection_does_not_pass(tapped: Tapped) -> None:
    believe(tapped.host)
    end = soon()
    admit(tapped, on(Terms(until=end), port=53, protocol=17))
    asked = p.ipv4(ONE.ipv4, TWO.ipv4, 17, p.udp(4999, 53))
    unreachable = p.ip_frame(TWO.v4, ONE.v4, 1, p.icmp(3, 3, data=asked[:28]))
    assert tapped.judge(EGRESS, p.ether(ONE.mac, TWO.mac, 0x0800, asked)) is Reason.NEW
    assert tapped.judge(INGRESS, unreachable) is Reason.RELATED
    wait_for(end)
    assert tapped.judge(INGRESS, unreachable) is Reason.ICMP_ERROR


def test_a_later_end_keeps_a_connection_alive_that_was_idle_over_the_earlier_one(tapped: Tapped) -> None:
    believe(tapped.host)
    end = soon()
    admit(tapped, on(Terms(until=end)))
    tapped.shake_hands()
    admit(tapped, on(Terms(until=end + LONG)))
    wait_for(end)
    assert tapped.tcp(INGRESS, p.ACK, 5001, 1001) is Reason.ESTABLISHED
    admit(tapped, on(Terms()))
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED


def test_an_earlier_end_cuts_what_lived_on_a_later_one(tapped: Tapped) -> None:
    believe(tapped.host)
    admit(tapped, on(Terms(until=later())))
    tapped.shake_hands()
    admit(tapped, on(Terms(until=int(time.time()) - 1)))
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.EXPIRED


def test_without_a_clock_that_is_believed_every_allowance_with_an_end_has_ended(tapped: Tapped) -> None:
    believe(tapped.host)
    admit(
        tapped,
        on(Terms(until=later())),
        on(Terms(until=later()), port=53, protocol=17),
        allow(APP, EGRESS, 6, 443, 32),
    )
    tapped.shake_hands()
    assert ask(tapped) is Reason.NEW
    assert tapped.host.shield.keep_time(is_believed=False)
    assert ask(tapped) is Reason.EXPIRED
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.EXPIRED
    assert tapped.tcp(EGRESS, p.SYN, 1, port=443, local=4100) is Reason.NEW
    believe(tapped.host)
    assert ask(tapped) is Reason.NEW


def test_a_stepped_clock_moves_the_end_of_what_stands(tapped: Tapped) -> None:
    believe(tapped.host)
    admit(tapped, on(Terms(until=later())))
    tapped.shake_hands()
    known = tapped.host.kernel.clock()
    tapped.host.kernel.set_clock(known + 2 * LONG * 10**9)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.EXPIRED
    assert tapped.host.shield.keep_time(is_believed=True), "a step is seen"
    assert abs(tapped.host.kernel.clock() - known) < 10**9
    assert not tapped.host.shield.keep_time(is_believed=True)
    tapped.shake_hands(4001)


def test_what_an_agent_said_of_the_clock_outlives_it_and_a_new_build(tapped: Tapped) -> None:
    believe(tapped.host)
    again = Host(tapped.host.kernel.pins.root)
    assert again.kernel.clock() == tapped.host.kernel.clock() != 0
    again.close()


def test_an_observed_vm_goes_on_after_the_end(tapped: Tapped) -> None:
    believe(tapped.host)
    end = soon()
    admit(tapped, on(Terms(until=end)), mode=ShieldMode.OBSERVE)
    tapped.shake_hands()
    wait_for(end)
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.OBSERVED
    assert tapped.tcp(EGRESS, p.SYN, 1, local=4001) is Reason.OBSERVED


def test_what_has_ended_is_freed(tapped: Tapped) -> None:
    believe(tapped.host)
    admit(tapped, on(Terms(until=later())))
    tapped.shake_hands()
    assert tapped.host.shield.prune() == 0
    index = layout.U32.unpack(tapped.host.kernel["tap_index"].get(layout.U32.pack(tapped.ifindex)) or b"")[0]
    table = tapped.host.shield._inner("established", index >> 1)
    assert table is not None
    for key, value in table.items().items():
        fields = list(layout.CONNECTION.unpack(value))
        fields[3] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 61 * 10**9
        table.put(key, layout.CONNECTION.pack(*fields))
    table.close()
    assert tapped.host.shield.prune() == 1


def test_a_rule_bears_so_many_new_connections_and_no_more(tapped: Tapped) -> None:
    admit(
        tapped,
        on(Terms(connections=5, within=LONG), port=53, protocol=17),
        on(Terms(connections=2, within=LONG), rule=9),
    )
    assert [ask(tapped) for _ in range(7)] == [Reason.NEW] * 5 + [Reason.RATE] * 2
    tapped.shake_hands(4000)
    tapped.shake_hands(4001)
    assert tapped.tcp(EGRESS, p.SYN, 1, local=4002) is Reason.RATE
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001, local=4000) is Reason.ESTABLISHED, "what was allowed stays"


def test_a_bucket_fills_again_evenly(tapped: Tapped) -> None:
    admit(tapped, on(Terms(connections=2, within=2 * SLOWNESS), port=53, protocol=17))
    assert [ask(tapped) for _ in range(3)] == [Reason.NEW, Reason.NEW, Reason.RATE]
    time.sleep(1.1 * SLOWNESS)
    assert ask(tapped) is Reason.NEW


def test_a_bucket_is_not_filled_by_asking_pruning_or_a_change(tapped: Tapped) -> None:
    entry = on(Terms(connections=1, within=LONG), port=53, protocol=17)
    admit(tapped, entry)
    assert ask(tapped) is Reason.NEW
    for _ in range(50):
        assert ask(tapped) is Reason.RATE
    tapped.host.shield.prune()
    tapped.host.shield.rejudge()
    admit(tapped, entry, allow(APP, EGRESS, 6, 443, 32))
    assert ask(tapped) is Reason.RATE


def test_each_packet_that_makes_no_connection_counts_as_one(tapped: Tapped) -> None:
    entry = allow(IDENTITY_GROUP, EGRESS, 17, 5353, 32)
    admit(tapped, msgspec.structs.replace(entry, terms=Terms(connections=3, within=LONG)))
    frame = p.ether(ONE.mac, "01:00:5e:00:00:fb", 0x0800, p.ipv4(ONE.ipv4, "224.0.0.251", 17, p.udp(5353, 5353)))
    assert [tapped.judge(EGRESS, frame) for _ in range(4)] == [Reason.STATELESS] * 3 + [Reason.RATE]


def test_where_there_is_no_room_to_count_nothing_is_allowed(tapped: Tapped) -> None:
    admit(tapped, on(Terms(connections=5, within=LONG), port=53, protocol=17))
    rates = tapped.host.kernel["rates"]
    rates.put_all({layout.RATE_KEY.pack(9999, rule, 0): layout.RATE.pack(2**63) for rule in range(rates.max_entries)})
    try:
        assert ask(tapped) is Reason.RATE
    finally:
        for key in list(rates.each_key()):
            rates.delete(key)
    assert ask(tapped) is Reason.NEW


def test_who_takes_a_slot_begins_with_full_buckets(tapped: Tapped) -> None:
    entry = on(Terms(connections=1, within=LONG), port=53, protocol=17)
    admit(tapped, entry)
    assert [ask(tapped), ask(tapped)] == [Reason.NEW, Reason.RATE]
    tapped.host.shield.delete_tap(tapped.ifindex)
    admit(tapped, entry)
    assert ask(tapped) is Reason.NEW


def told(host: Host) -> list[ShieldEvent]:
    return host.telemetry.events(1 << 16)


def test_every_first_packet_that_a_logging_rule_decides_is_told(tapped: Tapped) -> None:
    quiet = allow(APP, EGRESS, 17, 54, 32)
    admit(
        tapped, on(Terms(log=True), port=53, protocol=17), on(Terms(log=True), Verdict.DENY, 55, 17),
        on(Terms(log=True, connections=1, within=LONG), port=56, protocol=17), quiet,
    )  # fmt: skip
    assert [ask(tapped, port) for port in (53, 53, 54, 55, 55, 56, 56)] == [
        Reason.NEW, Reason.NEW, Reason.NEW, Reason.POLICY, Reason.POLICY, Reason.NEW, Reason.RATE,
    ]  # fmt: skip
    assert [(event.destination_port, event.logged) for event in told(tapped.host)] == [
        (53, True), (53, True), (54, False), (55, True), (55, True), (56, True), (56, True),
    ]  # fmt: skip


def test_what_follows_of_a_connection_that_was_cut_is_counted_and_told_in_no_rules_name(tapped: Tapped) -> None:
    """The cut itself names the rule; what comes after it belongs to no connection, so no rule decides it."""
    admit(tapped, on(Terms()))
    tapped.shake_hands()
    told(tapped.host)
    admit(tapped, on(Terms(log=True), Verdict.DENY, rule=9))
    assert [tapped.tcp(EGRESS, p.ACK, 1001, 5001) for _ in range(4)] == [Reason.POLICY, *[Reason.NO_CONNECTION] * 3]
    assert [(event.reason, event.rule, event.logged) for event in told(tapped.host)] == [
        (Reason.POLICY, 9, True), *[(Reason.NO_CONNECTION, 0, False)] * 3,
    ]  # fmt: skip
    assert tapped.host.reasons(tapped.ifindex)[EGRESS, Reason.NO_CONNECTION] == 3
    assert {pair.rule: pair.packets for pair in tapped.host.telemetry.pairs() if not pair.allowed} == {9: 1}


def test_a_flood_of_other_events_does_not_keep_back_what_is_logged(tapped: Tapped) -> None:
    host = tapped.host
    generation, clock, _, book, build = host.kernel._settings()
    host.kernel["settings"].put(layout.U32.pack(0), layout.SETTINGS.pack(generation, clock, 5, book, build))
    try:
        admit(tapped, on(Terms(log=True), port=53, protocol=17))
        for _ in range(300):
            ask(tapped, 9)
        assert ask(tapped) is Reason.NEW
        assert [event.destination_port for event in told(host) if event.logged] == [53]
        assert host.telemetry.shed().suppressed > 0
    finally:
        generation, clock, _, book, build = host.kernel._settings()
        host.kernel["settings"].put(layout.U32.pack(0), layout.SETTINGS.pack(generation, clock, 200, book, build))


def test_the_staged_verdict_is_told_and_counted_of_all_that_happens(tapped: Tapped) -> None:
    admit(
        tapped, on(Terms(staged=Verdict.DENY, staged_rule=RuleNumber(70))),
        on(Terms(staged=Verdict.ALLOW, staged_rule=RuleNumber(71)), Verdict.DENY, 81, rule=8),
        on(Terms(staged=Verdict.ALLOW, staged_rule=RuleNumber(72)), port=53, protocol=17, rule=9),
    )  # fmt: skip
    tapped.shake_hands()
    for _ in range(4):
        assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    assert tapped.tcp(EGRESS, p.SYN, 1, port=81) is Reason.POLICY
    assert [ask(tapped) for _ in range(3)] == [Reason.NEW] * 3
    events = {(event.staged, event.staged_rule, event.allowed) for event in told(tapped.host)}
    assert events == {(Verdict.DENY, 70, True), (Verdict.ALLOW, 71, False), (Verdict.ALLOW, 72, True)}
    sums = {(each.staged, each.staged_rule, each.count.rule, each.count.allowed): each.count.packets
            for each in tapped.host.telemetry.staged()}  # fmt: skip
    assert sums == {(Verdict.DENY, 70, 7, True): 7, (Verdict.ALLOW, 71, 8, False): 1, (Verdict.ALLOW, 72, 9, True): 3}
    assert {pair.rule: pair.packets for pair in tapped.host.telemetry.pairs()} == {7: 7, 8: 1, 9: 3}
    tapped.host.telemetry.forget_pairs(frozenset({1}))
    assert tapped.host.telemetry.staged() == []


def test_a_draft_that_is_taken_back_is_counted_no_more(tapped: Tapped) -> None:
    admit(tapped, on(Terms(staged=Verdict.DENY)))
    tapped.shake_hands()
    (before,) = tapped.host.telemetry.staged()
    admit(tapped, on(Terms()))
    assert tapped.tcp(EGRESS, p.ACK, 1001, 5001) is Reason.ESTABLISHED
    (after,) = tapped.host.telemetry.staged()
    assert before == after
    assert isinstance(after, StagedCount)
    assert isinstance(after.count, PairCount)
    tapped.host.telemetry.forget_pairs(frozenset({1}))


@pytest.mark.parametrize("terms", [
    Terms(), Terms(until=1), Terms(log=True), Terms(connections=1, within=1), Terms(staged=2), Terms(staged=3, staged_rule=RuleNumber(9)),
])  # fmt: skip
@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_program_with_terms_reads_back(tapped: Tapped, terms: Terms, verdict: Verdict) -> None:
    program = tapped.host.put_program(on(terms, verdict))
    assert program in tapped.host.shield.programs()
    assert program not in tapped.host.shield.altered_programs()
    tapped.host.shield.delete_program(program)


@pytest.mark.parametrize("terms", [
    Terms(connections=1), Terms(within=1), Terms(until=2**63), Terms(until=-1), Terms(connections=2**32, within=1),
])  # fmt: skip
def test_terms_that_a_program_cannot_hold_are_refused(tapped: Tapped, terms: Terms) -> None:
    with pytest.raises(ShieldFailed):
        tapped.host.put_program(on(terms))


def test_an_ended_allowance_stays_ended_for_who_is_asked_again(tapped: Tapped) -> None:
    """What was remembered under an end is asked of the program again after it, and found ended there too."""
    believe(tapped.host)
    end = soon()
    admit(tapped, on(Terms(until=end), port=53, protocol=17))
    assert [ask(tapped) for _ in range(3)] == [Reason.NEW] * 3
    wait_for(end)
    assert [ask(tapped) for _ in range(3)] == [Reason.EXPIRED] * 3


def test_a_direction_of_its_own_has_a_bucket_of_its_own(tapped: Tapped) -> None:
    terms = Terms(connections=1, within=LONG)
    entries = [msgspec.structs.replace(allow(APP, way, 17, 53, 32, rule=9), terms=terms) for way in Direction]
    admit(tapped, *entries)
    asked = p.ip_frame(TWO.v4, ONE.v4, 17, p.udp(next(PORTS), 53))
    assert [ask(tapped), ask(tapped), tapped.judge(INGRESS, asked)] == [Reason.NEW, Reason.RATE, Reason.NEW]
    assert WEB != APP
