"""One signed statement of what is handed over about a VM, and whether bodies and circumstances fit it. Sends nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.handover.section import Content
from buckler.model.bundle import MOST_EPOCH, Member
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest, HostId, Revision, VmId
from buckler.trust.statement import Kind, Untrusted, key_from_text, key_id, sign, verify

MAX_SECTIONS = 32
MAX_BODY = 32 * 1024 * 1024
MAX_BODIES = 64 * 1024 * 1024
_NAME = re.compile(r"[!-~]{1,64}")


class Seal(msgspec.Struct, frozen=True):
    """A section's content by version, length and SHA-256."""

    version: int
    size: int
    digest: Digest


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the source states. ``nonce`` is the destination's, so no earlier statement fits; ``serial`` rises from 1.

    ``epoch`` is the VM's stay at the source, ``binding`` what policy bound it there (model.binding). ``is_final``: the VM
    has stopped at the source, nothing follows.
    """

    vm: VmId
    source: HostId
    destination: HostId
    nonce: str
    epoch: int
    serial: int
    revision: Revision
    binding: Digest
    is_final: bool
    sections: dict[str, Seal]


class Expected(msgspec.Struct, frozen=True):
    """What the destination knows: whose VM it takes in from whom. ``serial`` is the last one that it took."""

    vm: VmId
    source: HostId
    destination: HostId
    nonce: str
    least_epoch: int
    serial: int = 0


def seal(contents: Mapping[str, Content]) -> dict[str, Seal]:
    """Name contents by what they are."""
    return {
        name: Seal(content.version, len(content.body), digest_of(content.body)) for name, content in contents.items()
    }


def sign_bundle(bundle: Bundle, key: Ed25519PrivateKey) -> str:
    """State it as the source's host."""
    return sign(Kind.HANDOVER, canonical_bytes(bundle), key)


def read_bundle(statement: str, source: Member, expected: Expected) -> Bundle:
    """Believe a statement only of the source's own key, of this very handover, and newer than the last. Raises Untrusted."""
    key = key_from_text(source.public_key)
    try:
        bundle = msgspec.json.decode(verify(Kind.HANDOVER, statement, {key_id(key): key}), type=Bundle)
    except msgspec.DecodeError as error:
        raise Untrusted(f"a handover that cannot be read: {error}") from error
    for what, is_so in _circumstances(bundle, expected):
        if not is_so:
            raise Untrusted(f"the handover is {what}")
    return bundle


def check_bodies(bundle: Bundle, bodies: Mapping[str, bytes]) -> dict[str, Content]:
    """Every section whole and as it was sealed, and none beside them. Raises Untrusted with the section's name."""
    if bodies.keys() != bundle.sections.keys():
        raise Untrusted("the handover's sections are not those that were sealed")
    for name, sealed in bundle.sections.items():
        if len(bodies[name]) != sealed.size or digest_of(bodies[name]) != sealed.digest:
            raise Untrusted(f"the section {name} was tampered with")
    return {name: Content(sealed.version, bodies[name]) for name, sealed in bundle.sections.items()}


def _circumstances(bundle: Bundle, expected: Expected) -> Iterable[tuple[str, bool]]:
    sizes = [sealed.size for sealed in bundle.sections.values()]
    return (
        ("of another VM", bundle.vm == expected.vm),
        ("of another host's", bundle.source == expected.source),
        ("meant for another host", bundle.destination == expected.destination),
        ("of another time (nonce)", bundle.nonce == expected.nonce),
        ("of an earlier stay (epoch)", bundle.epoch >= expected.least_epoch),
        ("of a stay that cannot be (epoch)", bundle.epoch <= MOST_EPOCH),
        ("a repetition (serial)", bundle.serial == expected.serial + 1),
        ("of too many sections", len(sizes) <= MAX_SECTIONS),
        ("too long", all(0 <= size <= MAX_BODY for size in sizes) and sum(sizes) <= MAX_BODIES),
        ("of odd section names", all(_NAME.fullmatch(name) for name in bundle.sections)),
    )
