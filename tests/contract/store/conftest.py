"""Stores to run the contract on: SQLite in a file and in memory, and a private PostgreSQL that is stopped afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.drivers.store.database import Database, open_database

_BIN = Path("/usr/lib/postgresql/15/bin")


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        if os.geteuid() == 0
        else command
    )


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    if not (_BIN / "initdb").exists():
        message = "the Debian package postgresql-15 is missing: the store is not tested on PostgreSQL"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="buckler-pg-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    try:
        initdb = [str(_BIN / "initdb"), "-D", str(data), "-U", "buckler", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(_as_user(initdb), check=True, capture_output=True, cwd="/")
        options = f"-k {folder} -c listen_addresses='' -c max_connections=40"
        start = [str(_BIN / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run(_as_user(start), check=True, stdout=subprocess.DEVNULL, cwd="/")
        yield folder
    finally:
        if (data / "postmaster.pid").exists():
            stop = [str(_BIN / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop"]
            subprocess.run(_as_user(stop), check=True, stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(folder)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "sqlite://"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pool.sqlite"
    socket = request.getfixturevalue("postgres_socket")
    name = f"t{abs(hash(str(tmp_path))) % 10**12}"
    subprocess.run(
        ["psql", "-h", str(socket), "-U", "buckler", "-qc", f"CREATE DATABASE {name}", "postgres"], check=True
    )
    return f"postgresql://buckler@/{name}?host={socket}"


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    database = open_database(store_url, flow_ring=50)
    yield database
    database.close()
