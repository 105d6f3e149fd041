"""``apply`` warns of what ``policy check`` warns of, in the documents that were applied and in no others."""

from __future__ import annotations

from pathlib import Path

from buckler.controller.changes import Wanted, store_change
from buckler.controller.registry import Author
from buckler.model.operatorapi.documents import SourceFile

from .test_releasing import World

HEAD = "apiVersion: buckler.io/v1\nkind: Policy\nmetadata: {{name: {0}}}\nspec:\n  description: d\n  owner: o\n  reason: r\n"
POLICY = HEAD + "  review: {1}\n  subject: {{matchLabels: {{app: {2}}}}}\n  egress:\n  - {{name: all, action: allow}}\n"


def told(world: World, file: str, *words: str, dry_run: bool = False) -> list[tuple[str, int]]:
    wanted = Wanted(files=(SourceFile(file, POLICY.format(*words)),), dry_run=dry_run)
    return [(each.message, each.line) for each in store_change(world.parts, wanted, Author("test")).warnings]


def test_a_subject_that_is_nobody_and_a_review_that_is_past_are_told_with_their_line(tmp_path: Path):
    world = World(tmp_path)
    found = told(world, "late.yaml", "late", "1960-01-01", "no-such", dry_run=True)
    assert any("subject is nobody" in message and line == 11 for message, line in found), found
    assert any("review was due on 1960-01-01" in message for message, _ in found), found
    assert told(world, "late.yaml", "late", "1960-01-01", "no-such") == found, "a trial says what the change says"


def test_what_others_wrote_is_not_told_again(tmp_path: Path):
    world = World(tmp_path)
    told(world, "late.yaml", "late", "1960-01-01", "no-such")
    text = POLICY.format("fine", "2999-01-01", "x").replace("{matchLabels: {app: x}}", "{}")
    wanted = Wanted(files=(SourceFile("fine.yaml", text),))
    assert store_change(world.parts, wanted, Author("test")).warnings == ()
