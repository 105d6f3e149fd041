"""Canonical JSON is RFC 8785's: its own vectors, and properties over everything that an event can hold."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buckler.ledger.canonical import NotCanonical, encode, plain

NUMBERS = {
    # RFC 8785, appendix B: the bits of a double, and its text.
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_the_rfc_shows(bits: str, text: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert encode(value).decode() == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_json_number_is_refused(value: float) -> None:
    with pytest.raises(NotCanonical):
        encode({"a": [value]})


def test_the_sample_of_3_2_2() -> None:
    given_text = (
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r' "string": "\u20ac$\u000F\u000aA'
        r"'\u0042\u0022\u005c\\\"\/"
        r'", "literals": [null, true, false]}'
    )
    wanted = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA'
        r"'B\"\\\\\"/"
        '"}'
    )
    assert encode(json.loads(given_text)).decode() == wanted


def test_keys_are_sorted_by_utf_16_as_3_2_3_shows() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(encode(dict.fromkeys(keys, 0)))) == ordered
    assert sorted(keys) != ordered, "code points sort otherwise"


def test_lone_surrogates_strange_keys_and_depth_are_refused() -> None:
    deep: Any = 0
    for _ in range(40):
        deep = [deep]
    for value in ("\ud800", {"\ud800": 1}, {1: 2}, {1, 2}, b"x", deep):
        with pytest.raises(NotCanonical):
            encode(value)
    with pytest.raises(NotCanonical):
        plain(deep)


@pytest.mark.parametrize("value", [2**53 + 1, 2**60, -(2**60), 10**400])
def test_integers_that_no_double_holds_are_refused_and_made_text(value: int) -> None:
    with pytest.raises(NotCanonical):
        encode(value)
    assert plain({"n": [value]}) == {"n": [str(value)]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3),
    max_leaves=10,
)


@given(ANYTHING)
@example("\ud800")
@example(-0.0)
@example(1e21)
@example(2**64)
def test_whatever_is_put_in_becomes_canonical_and_reads_back_as_itself(value: Any) -> None:
    text = encode(plain(value))
    again = json.loads(text)
    assert encode(again) == text
    assert doubles(again) == doubles(plain(value))


def doubles(value: Any) -> Any:
    """All numbers as a reader has them who knows doubles only."""
    if isinstance(value, dict):
        return {key: doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(JSON)
def test_equal_values_have_one_text_whatever_the_order_of_keys(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(list(item))}
        return [turned(each) for each in item] if isinstance(item, list) else item

    assert encode(plain(value)) == encode(plain(turned(value)))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_double_loses_a_bit(value: float) -> None:
    assert float(encode(value)) == value
