"""A private PostgreSQL for tests: made in a temporary folder as a user that is not root, reached by a unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BIN = Path("/usr/lib/postgresql/15/bin")


@contextmanager
def run_postgresql() -> Iterator[Path]:
    """Yield the folder of the socket; without the Debian package the test is skipped, in CI it fails."""
    if not (BIN / "initdb").exists():
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
        initdb = [str(BIN / "initdb"), "-D", str(data), "-U", "buckler", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(_as_user(initdb), check=True, capture_output=True, cwd="/")
        options = f"-k {folder} -c listen_addresses='' -c max_connections=60"
        start = [str(BIN / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"]
        subprocess.run(_as_user(start), check=True, stdout=subprocess.DEVNULL, cwd="/")
        yield folder
    finally:
        if (data / "postmaster.pid").exists():
            stop = [str(BIN / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop"]
            subprocess.run(_as_user(stop), check=True, stdout=subprocess.DEVNULL, cwd="/")
        shutil.rmtree(folder)


def make_database(socket: Path, name: str) -> str:
    """Make an empty database; return its URL."""
    command = ["psql", "-h", str(socket), "-U", "buckler", "-qc", f"CREATE DATABASE {name}", "postgres"]
    subprocess.run(command, check=True)
    return f"postgresql://buckler@/{name}?host={socket}"


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        if os.geteuid() == 0
        else command
    )
