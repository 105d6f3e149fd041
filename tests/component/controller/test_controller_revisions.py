"""Revisions of the documents over a real controller: told, shown, compared, put back."""

from __future__ import annotations

import pytest

from buckler.client.operator import OperatorFailed
from buckler.model.operatorapi.documents import ApplyRequest, Reference, SourceFile

from .conftest import ControllerProcess
from .shop import DB, NETWORK, SHOP, WEB, flow
from .test_controller_life import ledger


def commit(controller: ControllerProcess, comment: str, *texts: str, delete: tuple[Reference, ...] = ()) -> int:
    files = tuple(SourceFile(f"{number}.yaml", text) for number, text in enumerate(texts))
    with controller.operator() as client:
        return client.apply(ApplyRequest(files=files, delete=delete, comment=comment)).revision


def test_every_change_is_a_revision_with_author_comment_and_what_changed(controller: ControllerProcess) -> None:
    first = commit(controller, "the shop opens", *SHOP)
    second = commit(controller, "", flow(5433))
    third = commit(controller, "closed for good", delete=(Reference("Flow", "web-to-db"),))
    with controller.operator() as client:
        items = client.revisions().items
        assert [(each.revision, each.comment) for each in items] == [
            (third, "closed for good"), (second, ""), (first, "the shop opens")
        ]  # fmt: skip
        assert all(each.recorded and each.actor.startswith("uid:") for each in items)
        told = [[(one.kind, one.action, one.count, one.names) for one in each.changes] for each in items]
        assert told[0] == [("Flow", "deleted", 1, ("web-to-db",))]
        assert told[1] == [("Flow", "configured", 1, ("web-to-db",))]
        assert ("VM", "created", 2, ("db", "web")) in told[2]
        ports = [
            [each["spec"]["ports"][0]["port"] for each in client.revision(number).documents if each["kind"] == "Flow"]
            for number in (first, second, third)
        ]
        assert ports == [[5432], [5433], []]
        assert client.revision(third).made_by == items[0]
        with pytest.raises(OperatorFailed, match="no such revision"):
            client.revision(10**6)
    comments = {entry.detail.get("comment") for entry in ledger(controller)[1] if entry.detail.get("revision") == first}
    assert comments == {"the shop opens"}


@pytest.mark.parametrize("comment", ["x" * 2001, "a\0b"])
def test_a_comment_that_no_store_keeps_is_refused(controller: ControllerProcess, comment: str) -> None:
    with pytest.raises(OperatorFailed, match="the comment"):
        commit(controller, comment, NETWORK, WEB, DB)
    with controller.operator() as client:
        assert client.revisions().items == ()
