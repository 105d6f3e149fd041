"""The longest prefix that contains another: by length as by looking at every one."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from buckler.policy.prefix import Nest, is_host_prefix, longest

_V4 = st.integers(0, 32).flatmap(lambda length: st.tuples(st.sampled_from((0, 10 << 24, 0xFFFFFFFF)), st.just(length)))
_V6 = st.integers(0, 128).flatmap(lambda length: st.tuples(st.sampled_from((0, 0xFD << 120, 1)), st.just(length)))
PREFIXES = st.one_of(
    _V4.map(lambda each: str(ipaddress.ip_network(each, strict=False))),
    _V6.map(lambda each: str(ipaddress.IPv6Network(each, strict=False))),
)


@given(st.lists(PREFIXES, max_size=12), st.lists(PREFIXES, max_size=8))
def test_by_length_as_by_looking_at_every_one(named, asked):
    nest = Nest(named)
    for prefix in (*named, *asked):
        assert nest.longest(prefix) == longest(prefix, named)


def test_a_host_prefix_is_one_address():
    assert [is_host_prefix(each) for each in ("10.0.0.1/32", "10.0.0.0/31", "::1/128", "::/0")] == [
        True,
        False,
        True,
        False,
    ]
