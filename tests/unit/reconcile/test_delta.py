"""The laws of the delta: twice = once, change and revert, any state to any state, nothing else touched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buckler.reconcile.delta import Delta, diff

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
