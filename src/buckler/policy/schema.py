"""JSON Schema of every kind of document, for editors and reference. Owns the shape only: the checks say more."""

from __future__ import annotations

from typing import Any

import msgspec

from buckler.policy.language import API_VERSION, SPECS, Kind
from buckler.policy.vocabulary import meaning_of


def document_schema(kind: Kind) -> dict[str, Any]:
    """Give the schema (2020-12) of one kind."""
    (spec,), components = msgspec.json.schema_components([SPECS[kind]], ref_template="#/$defs/{name}")
    for name, part in components.items():
        for field, written in part.get("properties", {}).items():
            written["description"] = meaning_of(name, field)
    for rule in ("IngressRule", "EgressRule"):
        if rule in components:
            components[rule]["required"] = ["action"]  # a rule left unnamed is named by its place
    if "Port" in components:
        components["Port"]["required"] = ["protocol"]  # `any` stands for it in what was made, never in what is written
        components["Port"]["properties"]["protocol"].pop("default")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.value,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind.value},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "tenant": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "spec": spec,
        },
        "$defs": components,
    }
