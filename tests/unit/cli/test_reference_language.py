"""The language's reference is made of the code, and every word that is refused says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from buckler.policy.documents import read_documents
from buckler.policy.source import Source

ROOT = Path(__file__).parents[3]
HEAD = "description: d, owner: o, reason: r, review: 2030-01-01"


def test_the_reference_of_the_language_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference_language.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "spec",
    [
        "subject: {}, ingress: [{action: allow, user: alice}]",
        "subject: {}, ingress: [{action: allow, application: http}]",
        "subject: {}, ingress: [{action: allow, appProtocol: http}]",
        "subject: {}, ingress: [{action: allow, inspect: strict}]",
        "subject: {}, ingress: [{action: allow, profile: strict}]",
        "subject: {}, ingress: [{action: inspect}]",
        "subject: {}, ingress: [{action: redirect}]",
        "subject: {}, ingress: [{action: allow, from: [{user: alice}]}]",
    ],
)
def test_a_slot_that_is_not_filled_yet_is_refused_with_its_reason(spec: str) -> None:
    text = f"apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{name: p}}\nspec: {{{HEAD}, {spec}}}\n"
    reading = read_documents([Source("p.yaml", text)])
    assert not reading.documents
    assert any("not implemented yet" in each.message and each.hint for each in reading.problems), reading.problems


@pytest.mark.parametrize("word", ["translate: 8080", "application: http", "inspect: strict", "profile: strict"])
def test_a_services_slots_are_refused_with_their_reasons(word: str) -> None:
    spec = f"selector: {{}}, ports: [{{protocol: TCP, port: 1}}], {word}"
    text = f"apiVersion: buckler.io/v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{{spec}}}\n"
    reading = read_documents([Source("p.yaml", text)])
    assert not reading.documents
    assert any("not implemented yet" in each.message and each.hint for each in reading.problems), reading.problems
