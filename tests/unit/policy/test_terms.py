"""The laws of time, drafts and exceptions: by the reference alone, and the resolved form with it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.model.program import Verdict
from buckler.policy.compile import resolve_pool
from buckler.policy.judgement import Outcome
from buckler.policy.language import Kind
from buckler.policy.meet import is_covered, join, meet, overlay
from buckler.policy.packet import Packet
from buckler.policy.reference import judge
from buckler.policy.staging import promote_all
from buckler.policy.times import edges_of
from buckler.policy.timing import Untimed, active
from tests.policyworld import Store
from tests.randompolicy import Chooser, Drawn, Seeded, packet, pick
from tests.randomtimes import HOUR, START, moment, timed_world

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def sides(documents, pool, one: Packet):
    judged = judge(pool, documents, one)
    return [side for side in (judged.egress, judged.ingress) if side is not None]


@pytest.mark.proof
@QUICK
@given(st.data())
def test_an_allowance_lasts_until_its_end_and_no_longer(data):
    assert_lasting(Drawn(data.draw))


@pytest.mark.proof
@pytest.mark.parametrize("share", range(4))
def test_allowances_last_until_their_ends_in_many_worlds(share: int):
    seen = sum(assert_lasting(Seeded(seed)) for seed in range(share * 10_000, share * 10_000 + 300))
    assert seen > 15, "hardly anything ends: the generator is blunt"


def assert_lasting(choose: Chooser) -> int:
    """Hold what is allowed at a random time to what is judged later. Say how many allowances end."""
    written, ends = timed_world(choose), 0
    now = moment(choose)
    documents = active(written, now).documents
    pool = Store().pool(written)
    edges = sorted({edge for each in documents if each.times for edge in edges_of(each.times)})
    known = min((each.times.known for each in documents if each.times and each.times.known), default=0)
    one = packet(choose, documents)
    assert all(edge > now for edge in edges)
    later = [*edges, *(now + choose.number(1, 24 * 100) * HOUR for _ in range(6))]
    for place, side in enumerate(sides(documents, pool, one)):
        if not side.allowed:
            assert not side.until
            continue
        for at in later:
            if not side.until or at < side.until:
                assert sides(active(written, at).documents, pool, one)[place].allowed, f"closed at {at}, before its end"
        ends += bool(side.until)
        assert not side.until or side.until > now
        if side.until and (not known or side.until < known):
            after = sides(active(written, side.until).documents, pool, one)[place]
            assert not after.allowed, f"still open at its end, {side.until}"
    return ends


@pytest.mark.proof
@QUICK
@given(st.data())
def test_between_two_boundaries_nothing_changes(data):
    choose = Drawn(data.draw)
    written, now = timed_world(choose), moment(choose)
    told = active(written, now)
    if told.boundary:
        assert now < told.boundary
        then = choose.number(now, told.boundary - 1)
        assert active(written, then).documents == told.documents
        assert active(written, told.boundary) != told
    again = active(told.documents, now)
    assert (again.documents, again.boundary) == (told.documents, told.boundary), "asking twice is asking once"


@pytest.mark.proof
@QUICK
@given(st.data())
def test_the_staged_verdict_is_the_verdict_once_enforced(data):
    choose = Drawn(data.draw)
    documents = active(timed_world(choose), START).documents
    pool = Store().pool(documents)
    enforced = promote_all(documents)
    for _ in range(6):
        one = packet(choose, documents)
        for before, after in zip(sides(documents, pool, one), sides(enforced, pool, one), strict=True):
            assert before.drafted.verdict is after.verdict
            assert (before.drafted.rule and before.drafted.rule.key) == (after.rule and after.rule.key)
            assert after.staged is None


@pytest.mark.proof
@QUICK
@given(st.data())
def test_an_exception_moves_nothing_but_what_its_rule_decided(data):
    """Where the named rule does not speak, all is as without the exception; where it does, only for what both mean."""
    choose = Drawn(data.draw)
    documents = active(timed_world(choose), START).documents
    bare = tuple(each for each in documents if each.kind is not Kind.EXCEPTION)
    pool = Store().pool(documents)
    for _ in range(6):
        one = packet(choose, documents)
        for side, without in zip(sides(documents, pool, one), sides(bare, pool, one), strict=True):
            if not any(each.outcome is Outcome.YIELDS for each in side.considered):
                assert side.verdict is without.verdict
                assert (side.rule and side.rule.key) == (without.rule and without.rule.key)


@pytest.mark.proof
@QUICK
@given(st.data())
def test_meeting_is_within_both_and_joining_covers_both(data):
    choose = Drawn(data.draw)
    documents = active(timed_world(choose), START).documents
    store = Store()
    pool = store.pool(documents)
    resolved = resolve_pool(pool, documents, store.allocate(pool, documents))
    tables = [
        table for program in resolved.programs.values() for table in (*program.any.values(), *program.peers.values())
    ]
    one, other = pick(choose, tables), pick(choose, tables)
    met, joined = meet(one, other), join(one, other)
    for each in (one, other):
        assert covered(met, each)
        assert covered(each, joined)


def covered(less, more) -> bool:
    return all(one.verdict is not Verdict.ALLOW or is_covered(one, other) for one, other, _, _ in overlay(less, more))


def test_what_begins_or_ends_is_not_judged_without_a_time():
    written = next(
        world for seed in range(99) if (world := timed_world(Seeded(seed))) != active(world, START).documents
    )
    with pytest.raises(Untimed):
        resolve_pool(Store().pool(written), written, Store().numbers)
