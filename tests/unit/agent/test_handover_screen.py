"""Foreign rows: judged column by column exactly as one by one, and no row gets in that no connection here could be."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.agent.handover.connections import read_blocks, write_blocks
from buckler.agent.handover.screen import MAX_HALF_OPEN, ranges_of, screen, timeout
from buckler.agent.handover.section import BadSection
from buckler.drivers.ebpf.layout import pack_address, unpack_address
from buckler.model.connection import ROW_SIZE, Held, Rows, State, mark

FORM = struct.Struct("<8BHHI16sQ")
OWN = ("10.9.0.1", "fd00:9::1", "fe80::1")
LOCALS = (*(pack_address(address) for address in (*OWN, "10.9.0.99")), mark(7))
INFRA = ("10.99.0.0/24", "fd00:99::1/128", "192.0.2.7/32")
ROOM = 10
REMOTES = ("10.9.0.2", "203.0.113.9", "fd00:9::2", "10.9.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255",
           "10.99.0.7", "192.0.2.7", "fd00:99::1", "::", "::1", "ff02::1", "fe80::2")  # fmt: skip


def one(protocol=6, way=0, state=2, held=0, local=0, mine=7, theirs=7, rest=0, ports=(80, 40000), left=20_000,
        remote="203.0.113.9", age=1) -> bytes:  # fmt: skip
    raw = remote if isinstance(remote, bytes) else pack_address(remote)
    return FORM.pack(protocol, way, state, held, local, mine, theirs, rest, *ports, left, raw, age)


def is_sound(line: bytes) -> bool:
    """Say it plainly, one row at a time."""
    protocol, way, state, held, local, mine, theirs, rest, remote_port, local_port, left, raw, _ = FORM.unpack(line)
    if rest and (rest != len(LOCALS) or way or protocol not in (6, 17, 132)):
        return False
    if way > 1 or held > 2 or state > 4 or protocol == 2 or local >= len(OWN):
        return False
    if held == Held.ESTABLISHED and state < State.ESTABLISHED:
        return False
    if held == Held.HALF_OPEN and state in (State.ESTABLISHED, State.CLOSING):
        return False
    if protocol != 6 and (state > State.ESTABLISHED or mine or theirs):
        return False
    if any(byte & 15 > 14 or byte >> 4 > 3 for byte in (mine, theirs)):
        return False
    if protocol in (1, 58):
        if remote_port != local_port or (protocol == 1) != (ipaddress.ip_address(OWN[local]).version == 4):
            return False
    elif protocol not in (6, 17, 132) and (remote_port or local_port):
        return False
    if held != Held.ENDED and left > timeout(protocol, state) + 2000:
        return False
    remote, own = ipaddress.ip_address(unpack_address(raw)), ipaddress.ip_address(OWN[local])
    if remote.version != own.version or str(remote) in OWN or remote.is_multicast or remote.is_loopback:
        return False
    if remote.is_unspecified or (remote.version == 4 and (remote.packed[0] in (0, 127) or remote.packed[0] >= 224)):
        return False
    return not any(remote in ipaddress.ip_network(prefix) for prefix in INFRA)


LINES = st.builds(
    one,
    protocol=st.sampled_from([6, 6, 17, 132, 1, 58, 2, 47, 0, 255]),
    way=st.sampled_from([0, 1, 1, 2]),
    state=st.integers(0, 5),
    held=st.sampled_from([0, 0, 1, 2, 3]),
    local=st.integers(0, 5),
    mine=st.sampled_from([0, 0, 7, 0x3E, 0x0F, 0x40]),
    theirs=st.sampled_from([0, 0, 14, 0xFF]),
    rest=st.sampled_from([0, 0, 0, 1, 5, 5, 6, 255]),
    ports=st.sampled_from([(80, 40000), (7, 7), (0, 0), (0, 1)]),
    left=st.sampled_from([0, 9_000, 29_000, 31_999, 32_001, 61_000, 181_000, 21_602_000, 21_602_001, 2**32 - 1]),
    remote=st.sampled_from(REMOTES),
    age=st.integers(0, 2**64 - 1),
)
FORBIDDEN = ranges_of(INFRA)
OWN_BYTES = frozenset(pack_address(address) for address in OWN)


@pytest.mark.proof
@given(st.lists(LINES, max_size=ROOM))
@settings(max_examples=400, deadline=None)
def test_columns_are_judged_as_rows_are(lines: list[bytes]):
    screened = screen(Rows(LOCALS, b"".join(lines)), OWN_BYTES, FORBIDDEN, ROOM)
    assert screened.rows.rows == b"".join(line for line in lines if is_sound(line))
    assert sum(screened.refused.values()) == sum(not is_sound(line) for line in lines)


@given(st.lists(st.binary(min_size=ROW_SIZE, max_size=ROW_SIZE), max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_bytes_at_all_are_judged_as_rows_are(lines: list[bytes]):
    screened = screen(Rows(LOCALS, b"".join(lines)), OWN_BYTES, FORBIDDEN, 1000)
    assert screened.rows.rows == b"".join(line for line in lines if is_sound(line))


def test_sound_rows_of_every_kind_pass_so_that_the_others_fail_for_their_reason():
    lines = [
        one(),
        one(way=1, state=State.CLOSING, left=121_000, mine=0x3E),
        one(state=State.CLOSED, left=11_000),
        one(state=State.NEW, held=Held.HALF_OPEN, left=60_000),
        one(protocol=17, mine=0, theirs=0, left=180_000),
        one(protocol=132, mine=0, theirs=0, state=State.REPLIED, held=Held.HALF_OPEN, left=30_000),
        one(protocol=1, mine=0, theirs=0, ports=(9, 9)),
        one(protocol=58, mine=0, theirs=0, ports=(9, 9), local=1, remote="fd00:9::2"),
        one(protocol=47, mine=0, theirs=0, ports=(0, 0)),
        one(held=Held.ENDED, left=2**32 - 1),
    ]
    screened = screen(Rows(LOCALS, b"".join(lines)), OWN_BYTES, FORBIDDEN, ROOM)
    assert (screened.rows.rows, screened.refused) == (b"".join(lines), {})


@pytest.mark.parametrize(("reason", "line"), [
    ("form", one(local=3)), ("form", one(local=200)), ("form", one(way=7)), ("form", one(state=0)), ("form", one(mine=0x0F)),
    ("time", one(left=21_603_000)), ("address", one(remote="10.99.0.1")), ("address", one(remote="10.9.0.1")),
    ("address", one(remote="fd00:9::2")), ("address", one(remote="127.0.0.1")), ("address", one(local=1)),
    ("port", one(protocol=1, mine=0, theirs=0, ports=(7, 8))), ("port", one(protocol=47, mine=0, theirs=0, ports=(0, 5))),
])  # fmt: skip
def test_the_reason_is_told(reason: str, line: bytes):
    screened = screen(Rows(LOCALS, one() + line), OWN_BYTES, FORBIDDEN, ROOM)
    assert (screened.rows.rows, screened.refused) == (one(), {reason: 1})


def test_more_than_the_quota_is_refused_and_counted():
    many = b"".join(one(ports=(port, 1)) for port in range(ROOM + 5))
    half = b"".join(one(state=0, held=1, ports=(port, 1)) for port in range(MAX_HALF_OPEN + 3))
    screened = screen(Rows(LOCALS, many + half), OWN_BYTES, FORBIDDEN, ROOM)
    assert (len(screened.rows), screened.refused) == (ROOM + MAX_HALF_OPEN, {"room": 8})


def test_half_a_row_is_no_table():
    with pytest.raises(ValueError, match="half a row"):
        screen(Rows(LOCALS, one()[:-1]), OWN_BYTES, FORBIDDEN, ROOM)


BLOCKS = [("52:54:00:00:00:01", Rows(LOCALS, one() * 3)), ("52:54:00:00:00:02", Rows((), b""))]


def test_blocks_read_back():
    assert read_blocks(write_blocks(BLOCKS)) == BLOCKS
    assert read_blocks(write_blocks([])) == []


@given(st.integers(0, len(write_blocks(BLOCKS)) - 1))
def test_blocks_that_end_early_are_refused(length: int):
    with pytest.raises(BadSection):
        read_blocks(write_blocks(BLOCKS)[:length])


@pytest.mark.parametrize("body", [
    b"", b"\xff\xff", write_blocks(BLOCKS) + b"x", write_blocks([BLOCKS[0], BLOCKS[0]]),
    b"\1\0" + struct.pack("<6sBI", bytes(6), 0, 2**32 - 1), b"\1\0" + struct.pack("<6sBI", bytes(6), 255, 0),
])  # fmt: skip
def test_blocks_that_claim_what_they_have_not_are_refused(body: bytes):
    with pytest.raises(BadSection):
        read_blocks(body)


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_are_blocks_or_refused(body: bytes):
    try:
        assert write_blocks(read_blocks(body)) == body
    except BadSection:
        return
