"""A document as it is kept and shown ↔ its value. Checks nothing: what is read here was written here."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from buckler.policy.language import API_VERSION, DEFAULT_TENANT, SPECS, Document, Kind

_RULE_PATH = re.compile(r"spec\.(ingress|egress)\[\d+\]\Z")


def document_to_dict(document: Document) -> dict[str, Any]:
    """Give the canonical form, which ``apply`` takes again. Where it was written is ``origin_to_dict``."""
    metadata: dict[str, Any] = {"name": document.name, "tenant": document.tenant}
    if document.labels:
        metadata["labels"] = dict(document.labels)
    spec = msgspec.to_builtins(document.spec)
    return {"apiVersion": API_VERSION, "kind": document.kind.value, "metadata": metadata, "spec": spec}


def origin_to_dict(document: Document) -> dict[str, Any]:
    """Give where a document was written, for storage beside its canonical form: of the lines those of rules."""
    rules = {path: line for path, line in document.lines.items() if _RULE_PATH.match(path)}
    return {"file": document.file, "line": document.line, "lines": rules}


def document_from_dict(stored: dict[str, Any], origin: dict[str, Any] | None = None) -> Document:
    """Read what the two functions above gave. Raises msgspec.ValidationError, KeyError or ValueError on anything else."""
    kind = Kind(stored["kind"])
    metadata = stored["metadata"]
    place = origin or {}
    return Document(
        kind=kind,
        name=metadata["name"],
        tenant=metadata.get("tenant", DEFAULT_TENANT),
        labels=dict(metadata.get("labels", {})),
        spec=msgspec.convert(stored["spec"], SPECS[kind]),
        file=place.get("file", ""),
        line=place.get("line", 0),
        lines=dict(place.get("lines", {})),
    )
