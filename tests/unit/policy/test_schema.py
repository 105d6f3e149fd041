"""The schemas in docs/reference are those of the code. ``python tests/unit/policy/test_schema.py`` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buckler.policy.language import Kind
from buckler.policy.schema import document_schema

FOLDER = Path(__file__).parents[3] / "docs" / "reference" / "schema"


def path_of(kind: Kind) -> Path:
    return FOLDER / f"{kind.value.lower()}.json"


def text_of(kind: Kind) -> str:
    return json.dumps(document_schema(kind), indent=1, sort_keys=True) + "\n"


@pytest.mark.parametrize("kind", Kind)
def test_the_reference_is_not_stale(kind: Kind):
    assert path_of(kind).read_text() == text_of(kind)


def test_a_port_without_its_protocol_fits_no_schema_as_it_passes_no_check():
    port = document_schema(Kind.FLOW)["$defs"]["Port"]
    assert port["required"] == ["protocol"]
    assert "default" not in port["properties"]["protocol"]


def test_the_schema_knows_the_words_of_the_documents():
    policy = document_schema(Kind.POLICY)["$defs"]
    assert "from" in policy["IngressRule"]["properties"]
    assert "to" in policy["EgressRule"]["properties"]
    assert "except" in policy["Peer"]["properties"]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in Kind:
        path_of(each).write_text(text_of(each))
