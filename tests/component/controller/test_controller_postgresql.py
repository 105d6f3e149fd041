"""The same controller on a private PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from buckler.model.operatorapi.revisions import RollbackRequest
from tests.postgresql import make_database

from .conftest import Agent, ControllerProcess, wait_for
from .shop import SHOP, flow


def test_a_controller_on_postgresql_publishes_and_survives_being_killed(tmp_path: Path, postgres_socket: Path) -> None:
    process = ControllerProcess(tmp_path, database=make_database(postgres_socket, "controller"))
    process.start()
    agent = Agent(process, "host-a", 1)
    try:
        agent.start()
        assert process.apply(*SHOP, wait=20).waiting == ()
        applied = process.apply(flow(5433))
        process.kill()
        process.start()
        with process.operator() as client:
            assert client.document("Flow", "default", "web-to-db").revision == applied.revision
            wait_for("it is enforced", lambda: client.status().rollout is None, 30)
        assert not (tmp_path / "state/pool.sqlite").exists()
    finally:
        agent.tell_over()
        process.kill()
        agent.stop()


def test_revisions_on_postgresql_are_told_compared_and_put_back_after_a_restart(
    tmp_path: Path, postgres_socket: Path
) -> None:
    process = ControllerProcess(tmp_path, database=make_database(postgres_socket, "revisions"))
    process.start()
    try:
        first = process.apply(*SHOP).revision
        second = process.apply(flow(5433)).revision
        process.kill()
        process.start()
        with process.operator() as client:
            assert [each.revision for each in client.revisions().items] == [second, first]
            assert client.compare(first).count.changed == 1
            done = client.roll_back(first, RollbackRequest(comment="back", current=second))
            assert client.revisions().items[0].revision == done.result.revision > second
            assert client.compare(first).documents == ()
            assert client.compare(first, second).count.changed == 1
    finally:
        process.kill()
