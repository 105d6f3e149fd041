"""The four laws of the delta: twice = once, change and revert, any state to any state, incremental = full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buckler.reconcile.delta import Act, Delta, Layer, Tracker, diff, plan_changes

STATES = st.dictionaries(st.integers(0, 8), st.integers(0, 3), max_size=8)


def apply(state: dict[int, int], delta: Delta[int, int]) -> dict[int, int]:
    return {key: value for key, value in {**state, **delta.puts}.items() if key not in delta.removes}


@given(STATES, STATES)
def test_any_state_leads_to_any_state(actual, desired):
    assert apply(actual, diff(desired, actual)) == desired


@given(STATES, STATES)
def test_twice_is_once(actual, desired):
    once = apply(actual, diff(desired, actual))
    assert not diff(desired, once)


@given(STATES, STATES)
def test_change_and_revert_leaves_nothing(before, after):
    there = apply(before, diff(after, before))
    assert apply(there, diff(before, there)) == before


@given(STATES, STATES)
def test_only_what_differs_is_touched(actual, desired):
    delta = diff(desired, actual)
    touched = {*delta.adds, *delta.changes, *delta.removes}
    assert len(touched) == len(delta.adds) + len(delta.changes) + len(delta.removes)
    assert all(actual.get(key) != desired.get(key) for key in touched)


@given(st.lists(st.tuples(st.sampled_from(["desire", "observe", "apply", "part"]), STATES), max_size=12))
def test_the_tracker_always_tells_what_a_full_comparison_tells(steps):
    tracker: Tracker[int, int] = Tracker()
    desired: dict[int, int] = {}
    actual: dict[int, int] = {}
    for what, state in steps:
        if what == "desire":
            desired = state
            tracker.desire(state)
        elif what == "observe":
            actual = state
            tracker.observe(state)
        else:
            delta = tracker.pending()
            if what == "part":
                delta = Delta(dict(list(delta.adds.items())[:1]), {}, delta.removes[:1])
            tracker.applied(delta)
            actual = apply(actual, delta)
        assert _sorted(tracker.pending()) == _sorted(diff(desired, actual))


@given(st.lists(st.tuples(STATES, STATES), max_size=4))
def test_nothing_is_used_before_it_is_there_or_gone_while_used(states):
    layers = [Layer(str(index), desired, actual) for index, (desired, actual) in enumerate(states)]
    changes = plan_changes(layers)
    removals = [change.act is Act.REMOVE for change in changes]
    assert removals == sorted(removals)
    puts = [int(change.layer) for change in changes if change.act is not Act.REMOVE]
    gone = [int(change.layer) for change in changes if change.act is Act.REMOVE]
    assert puts == sorted(puts)
    assert gone == sorted(gone, reverse=True)


def _sorted(delta: Delta[int, int]) -> tuple[dict[int, int], dict[int, int], list[int]]:
    return delta.adds, delta.changes, sorted(delta.removes)
