"""The same controller on a private PostgreSQL."""

from __future__ import annotations

from pathlib import Path

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
