"""What policy binds a VM, as one digest that is the same on every host. Owns no policy."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.model.bundle import Endpoint, Manifest
from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.ids import Digest


class Bound(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One interface: its program by digest says every verdict; the rest says whose it is and how it is applied."""

    mac: str
    program: str
    identity: int
    mode: str
    addresses: tuple[str, ...]


def binding_of(endpoints: Iterable[Endpoint]) -> Digest:
    """Digest what all interfaces of one VM are bound by. Equal before and after a move that changes nothing."""
    bound = (
        Bound(each.mac, each.program, each.identity, each.mode.value, tuple(sorted(each.addresses)))
        for each in endpoints
    )
    return digest_of(canonical_bytes(sorted(bound)))


def policy_of(manifest: Manifest) -> Digest:
    """Name all that a manifest says of packets, rules' names with it. Manifests of two hosts, or revisions, may agree in it."""
    return manifest.root
