"""DNS messages (RFC 1035) → what was asked and which addresses were answered. Pure; hostile input gives nothing.

Owns no trust: that they passed between the VM and a permitted resolver, the shield has seen to; which query an answer
belongs to, ``agent.lookups``.
"""

from __future__ import annotations

import ipaddress

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import msgspec

from buckler.policy.learned import refuse_pattern

MAX_MESSAGE = 1024
MAX_ADDRESSES = 16
"""Of one answer; one with more names a crowd, of which none is taken."""
_MAX_CHAIN = 8
_MAX_RECORDS = 64
_ADDRESSES = frozenset({dns.rdatatype.A, dns.rdatatype.AAAA})
_HEADER = 12


class Question(msgspec.Struct, frozen=True):
    """``labels`` are as they were written, upper and lower case, which an answer repeats."""

    id: int
    labels: tuple[bytes, ...]
    kind: int

    @property
    def name(self) -> str:
        """The name in lower case without the last dot."""
        return b".".join(self.labels[:-1]).decode("ascii").lower()


class Answer(msgspec.Struct, frozen=True):
    """``seconds``: the shortest life of any record on the way from the name to its addresses."""

    addresses: tuple[str, ...]
    seconds: int


def read_query(message: bytes) -> Question | None:
    """Read what a VM asks: one name of the outside world, and its addresses. None for anything else."""
    parsed = _parse(message)
    if parsed is None or parsed.flags & (dns.flags.QR | dns.flags.TC) or parsed.answer or parsed.authority:
        return None
    return _question(parsed)


def read_answer(message: bytes, asked: Question) -> Answer | None:
    """Read the addresses to which the records lead from the asked name on, and no other. None: it is no answer to that."""
    parsed = _parse(message)
    if parsed is None or not parsed.flags & dns.flags.QR or parsed.flags & dns.flags.TC:
        return None
    if parsed.rcode() != dns.rcode.NOERROR or _question(parsed) != asked:
        return None
    records = [each for each in parsed.answer if each.rdclass == dns.rdataclass.IN]
    if sum(map(len, records)) > _MAX_RECORDS:
        return None
    return _follow(records, parsed.question[0].name, asked.kind)


def _parse(message: bytes) -> dns.message.Message | None:
    if not _HEADER < len(message) <= MAX_MESSAGE:
        return None
    try:
        return dns.message.from_wire(message)
    except (dns.exception.DNSException, ValueError, LookupError, ArithmeticError, TypeError, AttributeError):
        return None  # whatever a parser stumbles over is no message


def _question(parsed: dns.message.Message) -> Question | None:
    if parsed.opcode() != dns.opcode.QUERY or len(parsed.question) != 1:
        return None
    (asked,) = parsed.question
    if asked.rdclass != dns.rdataclass.IN or asked.rdtype not in _ADDRESSES:
        return None
    found = Question(parsed.id, asked.name.labels, int(asked.rdtype))
    if any(b"." in label for label in found.labels):
        return None  # one label that would read as several: another name, and maybe another's
    try:
        return None if refuse_pattern(found.name) or found.name.startswith("*") else found
    except UnicodeDecodeError:
        return None


def _follow(records: list[dns.rrset.RRset], name: dns.name.Name, kind: int) -> Answer | None:
    """Go from alias to alias (RFC 1034, 3.6.2); one that leads back, or to two names, leads nowhere."""
    by_owner = {(each.name, each.rdtype): each for each in records}
    seconds: list[int] = []
    for _ in range(_MAX_CHAIN + 1):
        aliases = by_owner.get((name, dns.rdatatype.CNAME))
        found = by_owner.get((name, dns.rdatatype.RdataType(kind)))
        if aliases is None:
            return _answer(found, seconds) if found is not None else None
        if found is not None or len(aliases) != 1:
            return None
        seconds.append(aliases.ttl)
        name = aliases[0].target
    return None


def _answer(found: dns.rrset.RRset, seconds: list[int]) -> Answer | None:
    addresses = tuple(sorted({str(ipaddress.ip_address(each.address)) for each in found}))
    return Answer(addresses, min((*seconds, found.ttl))) if len(addresses) <= MAX_ADDRESSES else None
