"""Selectors as people type them."""

from __future__ import annotations

import pytest

from buckler.controller.operators.selecting import parse_selector
from buckler.controller.problems import Refused


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "b"}, True),
        ("a=b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a, !c", {"a": ""}, True),
        ("a, !c", {"a": "", "c": "1"}, False),
        ("a", {}, False),
    ],
)
def test_a_selector_matches_as_its_text_says(text: str, labels: dict[str, str], *, matches: bool) -> None:
    assert parse_selector(text).matches(labels) is matches


@pytest.mark.parametrize("text", ["=b", "a b", "!", "!=x"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_selector(text)
