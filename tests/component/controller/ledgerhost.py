"""What the tests of the controller's ledger share: a command line, a host that witnesses, harm to the store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.__main__ import main

from .conftest import Agent, ControllerProcess


def cli(controller: ControllerProcess, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["--socket", controller.socket, *arguments])
    return result.exit_code, result.output


def root_of(agent: Agent) -> str:
    return agent.answer.root_key


def harmed(controller: ControllerProcess, harm: Callable[[sqlite3.Connection], None]) -> None:
    controller.kill()
    with contextlib.closing(sqlite3.connect(controller.folder / "state/pool.sqlite")) as database, database:
        harm(database)
    controller.start()


def truncate(database: sqlite3.Connection) -> None:
    """As a restored backup: entries, nodes, all of it."""
    (size,) = database.execute("SELECT max(sequence) FROM ledger").fetchone()
    database.execute("DELETE FROM ledger WHERE sequence > ?", (size - 6,))
    for level in range(20):
        database.execute("DELETE FROM ledger_nodes WHERE level = ? AND (number + 1) << level > ?", (level, size - 6))


def issuing_key(controller: ControllerProcess) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key((controller.folder / "state/keys/issuing.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key
