"""The layouts of bpf/abi.h as Python's struct formats, and the values in and out of them.

Nothing here is kept equal by hand alone: tests/component/test_abi.py checks every format against the object's BTF.
"""

from __future__ import annotations

import ipaddress
import struct

from buckler.model.ids import IdentityNumber, RuleNumber
from buckler.model.program import Direction, Entry, Terms, Verdict

ENDPOINT = struct.Struct("<5IHBB6sH")
OWN_KEY = struct.Struct("<I16s")
HOST_KEY = struct.Struct("<I16s")
PREFIX_KEY = struct.Struct("<II16s")
OWNER = struct.Struct("<III")
MAC_KEY = struct.Struct("<I6s2x")
SERVICE_PORT = struct.Struct("<HHB3x")
SERVICE_MEMBER = struct.Struct("<16s6s2x")
PORT_KEY = struct.Struct("<II")
PORT = struct.Struct("<II")
POLICY_KEY = struct.Struct("<IIBBH")
VERDICT = struct.Struct("<Q5IBBBx")
CONNECTION_KEY = struct.Struct("<16s16sHHBB2x")
CONNECTION = struct.Struct("<4QIIIBBBxIIIBBBx5IHBBBBBxI")
HALF_OPEN_SET = struct.Struct("<8II28x" + 8 * (CONNECTION_KEY.format + CONNECTION.format).replace("<", ""))
SECRET = struct.Struct("<11Q")
FRAGMENT_KEY = struct.Struct("<16s16sIBB2x")
FRAGMENT = struct.Struct("<QIHHHBB4x")
TAP_STATE = struct.Struct("<QQIIQQQ")
RATE_KEY = struct.Struct("<III")
RATE = struct.Struct("<Q")
COUNT = struct.Struct("<QQ")
PAIR_KEY = struct.Struct("<4IBB2x")
STAGED_KEY = struct.Struct("<4IBB2xIB3x")
EVENT = struct.Struct("<Q8I16s16sHHHBBBBBBI")
SHED = struct.Struct("<QQ")
CLAIM = struct.Struct("<QII16s16sHBxH2x1024s")
CLAIM_BUDGET = struct.Struct("<QII")
SETTINGS = struct.Struct("<QQII32s")
MOST_MEMBERS = 32
MOST_PORTS = 16
SERVICE = struct.Struct(
    "<III" + (MOST_PORTS * SERVICE_PORT.format + MOST_MEMBERS * SERVICE_MEMBER.format).replace("<", "")
)
U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")

FORMATS: dict[str, struct.Struct] = {
    "endpoint": ENDPOINT,
    "own_key": OWN_KEY,
    "host_key": HOST_KEY,
    "prefix_key": PREFIX_KEY,
    "owner": OWNER,
    "mac_key": MAC_KEY,
    "service_port": SERVICE_PORT,
    "service_member": SERVICE_MEMBER,
    "service": SERVICE,
    "port_key": PORT_KEY,
    "port": PORT,
    "policy_key": POLICY_KEY,
    "verdict": VERDICT,
    "connection_key": CONNECTION_KEY,
    "connection": CONNECTION,
    "half_open_set": HALF_OPEN_SET,
    "secret": SECRET,
    "fragment_key": FRAGMENT_KEY,
    "fragment": FRAGMENT,
    "tap_state": TAP_STATE,
    "rate_key": RATE_KEY,
    "rate": RATE,
    "count": COUNT,
    "pair_key": PAIR_KEY,
    "staged_key": STAGED_KEY,
    "event": EVENT,
    "shed": SHED,
    "claim": CLAIM,
    "claim_budget": CLAIM_BUDGET,
    "settings": SETTINGS,
}

MARK_JUDGED = 0x00800000
MARK_ANSWER = 0x01000000
MAX_TAPS = 4096
MAX_SERVICES = 16384
CONNECTIONS_HALF_OPEN = 4096
HALF_OPEN_SETS = 512
HALF_OPEN_WAYS = 8
FRAGMENTS_PER_TAP = 1024
NOBODY = 0xFFFFFFFF
TAG_TAKEN = 2
VERDICT_TERMS = 1
VERDICT_LOG = 2
EVENT_LOGGED = 1
EVENT_ANSWERED = 2
REASON_COUNT = 64
REASON_COUNTS_SIZE = 2 * REASON_COUNT * COUNT.size
CONNECTION_TIMES = struct.Struct("<4Q")
"""How ``connection`` begins: expires, created, stamp, until."""

_LAST_SECOND = (1 << 64) // 1_000_000_000 - 1
_MAPPED = b"\0" * 10 + b"\xff\xff"


def pack_address(text: str) -> bytes:
    """Write an address in 16 bytes, IPv4 as ::ffff:a.b.c.d. Raises ValueError, also for mapped IPv6 text."""
    address = ipaddress.ip_address(text)
    if address.version == 4:
        return _MAPPED + address.packed
    if address.packed.startswith(_MAPPED):
        raise ValueError(f"{text}: an IPv4 address written as IPv6")
    return address.packed


def unpack_address(raw: bytes) -> str:
    """Read what ``pack_address`` wrote."""
    return str(ipaddress.ip_address(raw[12:] if raw.startswith(_MAPPED) else raw))


def pack_mac(text: str) -> bytes:
    """Write a MAC in 6 bytes. Raises ValueError."""
    raw = bytes.fromhex(text.replace(":", ""))
    if len(raw) != 6:
        raise ValueError(f"{text}: not a MAC")
    return raw


def unpack_mac(raw: bytes) -> str:
    """Write six bytes as aa:bb:cc:dd:ee:ff."""
    return raw.hex(":")


def pack_prefix(zone: int, text: str) -> tuple[bool, bytes]:
    """Return whether a prefix is a single address, and its key in ``hosts`` or ``prefixes``."""
    network = ipaddress.ip_network(text)
    address = pack_address(str(network.network_address))
    if network.prefixlen == network.max_prefixlen:
        return True, HOST_KEY.pack(zone, address)
    bits = network.prefixlen + (96 if network.version == 4 else 0)
    return False, PREFIX_KEY.pack(32 + bits, zone, address)


def unpack_host(raw: bytes) -> tuple[int, str]:
    """Read a key of ``hosts``: zone and prefix."""
    zone, address = HOST_KEY.unpack(raw)
    text = unpack_address(address)
    return zone, f"{text}/{128 if ':' in text else 32}"


def unpack_prefix(raw: bytes) -> tuple[int, str]:
    """Read a key of ``prefixes``: zone and prefix."""
    bits, zone, address = PREFIX_KEY.unpack(raw)
    length = bits - 32
    if address.startswith(_MAPPED) and length >= 96:
        return zone, f"{unpack_address(address)}/{length - 96}"
    return zone, f"{ipaddress.IPv6Address(address)}/{length}"


def pack_entry(entry: Entry) -> tuple[bytes, bytes]:
    """Write one entry of a program as key and value of its map."""
    port = struct.unpack("<H", struct.pack(">H", entry.port))[0]
    key = POLICY_KEY.pack(32 + entry.prefix, entry.peer, entry.direction, entry.protocol, port)
    return key, _pack_verdict(entry)


def _pack_verdict(entry: Entry) -> bytes:
    terms = entry.terms
    if terms is None:
        return VERDICT.pack(0, entry.rule, entry.observed, 0, 0, 0, entry.verdict, 0, 0)
    if terms.until > _LAST_SECOND:
        raise ValueError(f"until {terms.until}: after the end of the kernel's time")
    if bool(terms.connections) != bool(terms.within):
        raise ValueError(f"{terms.connections} connections within {terms.within} seconds: a rate has both or neither")
    flags = VERDICT_TERMS | (VERDICT_LOG if terms.log else 0)
    rate = terms.connections, terms.within
    return VERDICT.pack(
        terms.until, entry.rule, entry.observed, terms.staged_rule, *rate, entry.verdict, flags, terms.staged
    )


def unpack_entry(key: bytes, value: bytes) -> Entry:
    """Read what ``pack_entry`` wrote. Raises ValueError for numbers that no program has."""
    bits, identity, direction, protocol, port = POLICY_KEY.unpack(key)
    until, rule, observed, staged_rule, connections, within, action, flags, staged = VERDICT.unpack(value)
    terms = None
    if flags & VERDICT_TERMS:
        terms = Terms(until, bool(flags & VERDICT_LOG), connections, within, staged, RuleNumber(staged_rule))
    elif any((until, staged_rule, connections, within, flags, staged)):
        raise ValueError("a verdict without terms that has some")
    return Entry(
        IdentityNumber(identity),
        Direction(direction),
        protocol,
        struct.unpack(">H", struct.pack("<H", port))[0],
        bits - 32,
        Verdict(action),
        RuleNumber(rule),
        RuleNumber(observed),
        terms,
    )
