"""The draft: all that is enforced and all that is staged as if it were. Publishes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from buckler.policy.language import Document, FlowSpec, PolicyMode, PolicySpec


def is_staged(document: Document) -> bool:
    """Say whether a document decides in the draft only."""
    return isinstance(document.spec, PolicySpec | FlowSpec) and document.spec.mode is PolicyMode.STAGED


def promote(document: Document) -> Document:
    """Let a staged document decide; any other stays as it is."""
    if isinstance(document.spec, PolicySpec | FlowSpec) and is_staged(document):
        spec = msgspec.structs.replace(document.spec, mode=PolicyMode.ENFORCE)
        return msgspec.structs.replace(document, spec=spec)
    return document


def promote_all(documents: Iterable[Document]) -> tuple[Document, ...]:
    """Give the documents as they would be were everything that is staged enforced."""
    return tuple(map(promote, documents))
