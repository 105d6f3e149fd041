"""``buckler agent run | join | status``: reads settings, builds the real drivers. Holds no logic of the agent's."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import click
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.assemble import Agent, NotJoined
from buckler.agent.book import reachable_addresses
from buckler.agent.doorman import Request, ask
from buckler.agent.install import install_hook
from buckler.agent.kernel import real_drivers
from buckler.agent.lock import take_lock
from buckler.agent.settings import DEFAULT_PATH, AgentSettings, BadSettings, read_settings
from buckler.agent.witness import witness_of
from buckler.client.agentside import BadJoinToken, ControllerAway, ControllerRefused, join
from buckler.drivers.netlink.links import NetlinkLinks
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.agentapi import JoinRequest
from buckler.model.event import Event, EventKind
from buckler.model.prepared import prepare_structs
from buckler.ports.guard import GuardFailed
from buckler.ports.shield import ShieldFailed
from buckler.ports.state import Membership, StateFailed
from buckler.trust.statement import key_text

_CONTRADICTED = 5
_FAILURES = (
    BadSettings,
    NotJoined,
    StateFailed,
    GuardFailed,
    ShieldFailed,
    BadJoinToken,
    ControllerAway,
    ControllerRefused,
)


@click.group()
@click.option("--settings", "path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True)
@click.pass_context
def agent(context: click.Context, path: Path) -> None:
    """Guard the VMs of this hypervisor host."""
    try:
        context.obj = read_settings(path)
    except BadSettings as error:
        raise click.ClickException(str(error)) from error


@agent.command("run")
@click.pass_obj
def run_command(settings: AgentSettings) -> None:
    """Enforce, gate and record until told to stop."""
    _log_to_stderr()
    is_over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: is_over.set())
    prepare_structs()
    try:
        held = take_lock(Path(settings.state))
        running = Agent(settings, real_drivers(settings))
        install_hook(settings)
        running.start()
    except _FAILURES as error:
        raise click.ClickException(str(error)) from error
    _tell_systemd("READY=1")
    while not is_over.wait(1.0):
        pass
    running.stop()
    held.close()


@agent.command("join")
@click.argument("token")
@click.option("--controller", "url", help="https://ADDRESS:PORT of a controller; the settings' first one by default.")
@click.option("--name", help="How the pool calls this host; its hostname by default.")
@click.pass_obj
def join_command(settings: AgentSettings, token: str, url: str | None, name: str | None) -> None:
    """Make this host a member of the pool that made TOKEN."""
    target = url or next(iter(settings.controllers), "")
    if not target:
        raise click.UsageError("name a controller with --controller, or in the settings")
    called = name or settings.name or socket.gethostname()
    try:
        state = SqliteState(Path(settings.state))
        if state.membership() is not None:
            raise click.ClickException("this host has joined a pool already")
        key = Ed25519PrivateKey.from_private_bytes(state.host_key())
        addresses = settings.addresses or reachable_addresses(NetlinkLinks().host_addresses())
        answer = join(
            target,
            JoinRequest(
                token=token,
                name=called,
                public_key=key_text(key.public_key()),
                fabric=settings.fabric_address or next(iter(addresses), ""),
                addresses=addresses,
                migrate_uri=settings.migrate_uri,
            ),
        )
        state.put_document("issuers", answer.issuers)
        state.put_membership(
            Membership(answer.pool, answer.host, called, (target,), answer.root_key, answer.ca_certificate)
        )
        install_hook(settings)
    except _FAILURES as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{called} is now a member of the pool {answer.pool} (host {answer.host})")


@agent.command("status")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def status_command(settings: AgentSettings, output: str) -> None:
    """Say what this host enforces now."""
    try:
        detail = ask(Path(settings.socket), Request("status")).detail
    except OSError as error:
        raise click.ClickException(f"no agent answers at {settings.socket}: {error}") from error
    if output == "json":
        click.echo(json.dumps(detail))
        return
    click.echo(
        f"revision {detail['enforced']} enforced, {detail['wanted']} wanted ({detail['stage'] or 'no policy yet'})"
    )
    click.echo(f"open taps: {', '.join(detail['taps']) or 'none'}")
    click.echo(f"witness of {detail['witness']['size']} entries of the ledger")
    for problem in detail["problems"]:
        click.echo(f"problem: {problem}")


@agent.command("witness")
@click.option("--forget", is_flag=True, help="Begin anew, as after the pool's store was restored. It is recorded.")
@click.pass_obj
def witness_command(settings: AgentSettings, forget: bool) -> None:
    """Print the newest checkpoint of the ledger that this host saw, with its cosignature.

    Neither controller nor agent is asked: keep the output, and give it to `buckler ledger verify --witness`. When the
    ledger contradicted it since, that is told, with both checkpoints: then the exit code is 5.

    \b
    Example:
      buckler agent witness > h1.witness
    """
    try:
        state = SqliteState(Path(settings.state))
        membership = state.membership()
        if membership is None:
            raise click.ClickException("this host has not joined a pool")
        witness = witness_of(state, membership)
        note, refusal = witness.note, witness.refusal
        if forget:
            detail = {"held": note, "offered": refusal.offered if refusal else ""}
            event = Event(EventKind.WITNESS_FORGOTTEN, time.time(), host=membership.host, actor="agent", detail=detail)
            state.record(event)
            witness.forget()
    except _FAILURES as error:
        raise click.ClickException(str(error)) from error
    if not note:
        raise click.ClickException("this host has seen no checkpoint yet")
    click.echo(note, nl=False)
    if refusal is not None and not forget:
        click.echo(f"\nrefused since, because {refusal.reason}:\n\n{refusal.offered}", nl=False, err=True)
        sys.exit(_CONTRADICTED)


def _log_to_stderr() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _tell_systemd(word: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(word.encode(), path.replace("@", "\0", 1))
