"""``buckler controller``: run a controller, rotate its issuing key. Owns the words of the command line only."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import sys
import time
from pathlib import Path

import click
import structlog

from buckler.controller.assemble import run as run_controller
from buckler.controller.files import make_folder
from buckler.controller.keys import KeysFailed, open_keys, rotate_issuing
from buckler.controller.parts import Parts, sealed
from buckler.controller.retiring import retire_old_keys
from buckler.controller.settings import Settings, SettingsError, read_settings
from buckler.drivers.store.database import open_database
from buckler.ports.store import StoreFailed

CONFIG = Path("/etc/buckler/controller.yaml")


@click.group()
def controller() -> None:
    """Run and look after a controller."""


@controller.command()
@click.option("--config", type=click.Path(path_type=Path), help=f"Settings in YAML (default: {CONFIG} if it is there).")
@click.option("--state-dir", help="Keys and, by default, the database.")
@click.option("--database", help="URL of the store: sqlite:///PATH or postgresql://….")
@click.option("--socket", "socket_path", help="Unix socket of the operator API.")
@click.option("--listen-address", help="Where agents connect.")
@click.option("--listen-port", type=int, help="The port that agents connect to.")
@click.option("--name", "names", multiple=True, help="Host name or address that agents reach this controller by.")
def run(
    config: Path | None,
    state_dir: str | None,
    database: str | None,
    socket_path: str | None,
    listen_address: str | None,
    listen_port: int | None,
    names: tuple[str, ...],
) -> None:
    """Run until SIGTERM."""
    os.umask(0o077)
    _configure_logs()
    settings = _settings(
        config,
        state_dir=state_dir,
        database=database,
        socket=socket_path,
        listen_address=listen_address,
        listen_port=listen_port,
        names=names or None,
    )
    try:
        asyncio.run(run_controller(settings))
    except (KeysFailed, StoreFailed, OSError) as error:
        raise click.ClickException(str(error)) from error


@controller.command("rotate-key")
@click.option("--config", type=click.Path(path_type=Path), help=f"Settings in YAML (default: {CONFIG} if it is there).")
@click.option("--state-dir", help="Keys and, by default, the database.")
@click.option("--database", help="URL of the store, for --retire.")
@click.option("--retire", is_flag=True, help="Make none: end the trust in the keys before the one that signs now.")
def rotate_key(config: Path | None, state_dir: str | None, database: str | None, retire: bool) -> None:
    """Make a new issuing key, or retire the ones before it.

    To make one the controller must be stopped; its next start has the pool root name the key, and gives every VM a
    passport by it. When all hosts and VMs have what it signed, --retire ends the trust in the old ones; the controller
    may run meanwhile. Until then it says what is missing, and changes nothing.

    \b
    Examples:
      buckler controller rotate-key
      buckler controller rotate-key --retire
    """
    settings = _settings(config, state_dir=state_dir, database=database)
    folder = Path(settings.state_dir) / "keys"
    if not (folder / "root.pem").exists():
        raise click.ClickException(f"{folder} holds no keys")
    make_folder(folder)
    if retire:
        _retire(settings)
        return
    rotate_issuing(folder)
    click.echo("made a new issuing key; start the controller to have the pool root name it")


def _retire(settings: Settings) -> None:
    try:
        keys = open_keys(Path(settings.state_dir) / "keys", settings, dt.datetime.now(dt.UTC))
        store = sealed(open_database(settings.database_url()), settings, keys)
        with store.write() as unit:
            against = retire_old_keys(Parts(settings, keys, store, time.time), unit, f"uid:{os.getuid()}")
        store.close()
    except (KeysFailed, StoreFailed) as error:
        raise click.ClickException(str(error)) from error
    if against:
        raise click.ClickException("\n  ".join(("the old keys are still needed:", *against)))
    click.echo("the pool trusts only the newest issuing key")


def _configure_logs() -> None:
    """Plain lines on stderr. Tracebacks never show local variables: some of them are secrets."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("litestar").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _settings(config: Path | None, **overrides: object) -> Settings:
    path = config or (CONFIG if CONFIG.exists() else None)
    try:
        return read_settings(path, **overrides)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
