"""Names, labels, and made-up hardware of imported things: always the same for the same input. Owns no format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from buckler.model.label import RESERVED_PREFIX, Selector
from buckler.policy.language import (
    Document,
    EgressRule,
    IngressRule,
    InterfaceSpec,
    Kind,
    NetworkSpec,
    PolicySpec,
    Subject,
    VmSpec,
)

MAX_NAME = 63
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?\Z")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")
_ENCODED = "encoded.label"


def digest(text: str, length: int = 12) -> str:
    """Give the first hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def document_name(*parts: str) -> str:
    """Join parts to a name that documents may have; what does not fit is cut and told apart by a digest."""
    whole = ".".join(parts)
    if _NAME.match(whole):
        return whole
    word = re.sub(r"[^a-z0-9.]+", "-", whole.lower()).strip("-.")[: MAX_NAME - 13].strip("-.")
    return f"{word or 'x'}-{digest(whole)}"


def rule_name(*parts: str) -> str:
    """Name a rule: rules live within their document, so the same shape does."""
    return document_name("-".join(part for part in parts if part) or "rule")


def label_key(key: str, *, scope: str = "", reserved: Sequence[str] = ()) -> str:
    """Give the key under which a foreign label stands here: its own, below ``scope``, or a digest where that cannot be.

    Different keys never meet: what is malformed here, or lies in a reserved room, becomes a digest.
    """
    prefix, slash, name = key.rpartition("/")
    placed = ".".join(part for part in (scope, prefix) if part)
    proper = _LABEL_NAME.match(name) and (not placed or _NAME.match(placed)) and (not slash or prefix)
    taken = not scope and any(prefix == each or prefix.startswith(f"{each}.") for each in (*reserved, _ENCODED))
    if not proper or taken or f"{placed}/".endswith(RESERVED_PREFIX):
        return f"{_ENCODED}/{digest(f'{scope}|{key}', 40)}"
    return f"{placed}/{name}" if placed else name


def label_value(value: str) -> str:
    """Give a value that a label may have; another one becomes a digest of itself."""
    return value if _LABEL_VALUE.match(value) else f"encoded.{digest(value, 40)}"


def is_label_value(value: str) -> bool:
    """Say whether a value stands as it is."""
    return bool(_LABEL_VALUE.match(value))


def network_document(name: str, *, bridge: str = "", vlan: int = 0, severed: Collection[str] = ()) -> Document:
    """Make the network that imported VMs stand in; a made-up bridge is to be edited before use.

    In those of ``severed`` nobody has an IPv6 link-local address: a rule would allow more by it than its source.
    """
    spec = NetworkSpec(bridge=bridge or f"im{digest(name, 8)}", vlan=vlan, link_local=name not in severed)
    return Document(Kind.NETWORK, name, spec)


def vm_document(
    name: str,
    labels: Mapping[str, str],
    cards: Sequence[InterfaceSpec],
    *,
    file: str = "",
    line: int = 0,
    purpose: str = "",
    uuid: str = "",
) -> Document:
    """Make a VM; without a ``uuid`` of its own it gets one made of its name."""
    spec = VmSpec(uuid=uuid or made_uuid(name), interfaces=tuple(cards), purpose=purpose)
    return Document(Kind.VM, name, spec, labels=dict(labels), file=file, line=line)


def made_uuid(name: str) -> str:
    """Make an RFC 9562 version 8 UUID of a name."""
    raw = bytearray(hashlib.sha256(f"vm {name}".encode()).digest()[:16])
    raw[6], raw[8] = raw[6] & 0x0F | 0x80, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def made_mac(name: str) -> str:
    """Make a locally administered MAC of a name."""
    raw = hashlib.sha256(f"mac {name}".encode()).digest()[:5]
    return ":".join(f"{each:02x}" for each in (0x02, *raw))


def policy_document(
    name: str,
    *,
    review: str,
    description: str,
    ingress: Sequence[IngressRule] = (),
    egress: Sequence[EgressRule] = (),
    subject: Selector,
    file: str = "",
    line: int = 0,
    **spec: Any,
) -> Document:
    """Make a policy with the words that an imported one has."""
    made = PolicySpec(
        description=description[:1024],
        owner="imported",
        reason=f"carried over from {file or 'the source'}"[:1024],
        review=review,
        subject=Subject(subject.match_labels, subject.match_expressions),
        ingress=tuple(ingress),
        egress=tuple(egress),
        **spec,
    )
    return Document(Kind.POLICY, name, made, file=file, line=line)
