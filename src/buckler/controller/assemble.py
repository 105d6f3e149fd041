"""Puts a controller together from its settings: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import time
from importlib.metadata import version
from pathlib import Path

import structlog
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from buckler.controller.absence import tell_start
from buckler.controller.agents.claiming import claim_routes
from buckler.controller.agents.intake import intake_routes
from buckler.controller.agents.joining import joining_routes
from buckler.controller.agents.watching import watching_routes
from buckler.controller.agents.witnessing import witnessing_routes
from buckler.controller.carrying import carry_rollout
from buckler.controller.engine import Engine
from buckler.controller.files import make_folder
from buckler.controller.keys import open_keys
from buckler.controller.operators import operator_routes
from buckler.controller.parts import Parts, sealed
from buckler.controller.passports import name_issuing_key
from buckler.controller.problems import HANDLERS
from buckler.controller.serve import agents_listener, open_operator_socket, operators_listener, serve_all, stop_serving
from buckler.controller.settings import Settings
from buckler.controller.watchman import keep_watch
from buckler.drivers.netlink.links import NetlinkLinks
from buckler.drivers.store.database import open_database
from buckler.model.event import Event, EventKind
from buckler.model.prepared import prepare_structs
from buckler.trust.statement import key_text

VERSION = version("buckler")
_log = structlog.get_logger("buckler.controller")
_AGENT_BODY = 4 * 1024 * 1024
_OPERATOR_BODY = 32 * 1024 * 1024


def open_parts(settings: Settings) -> Parts:
    """Open keys and store, make what was never made, and record the start."""
    prepare_structs()
    state = Path(settings.state_dir)
    make_folder(state)
    keys = open_keys(state / "keys", settings, dt.datetime.now(dt.UTC))
    store = sealed(open_database(settings.database_url(), flow_ring=settings.flow_ring), settings, keys)
    parts = Parts(settings=settings, keys=keys, store=store, clock=time.time, machine=NetlinkLinks().host_addresses)
    with store.begin() as unit:
        carry_rollout(unit)
        is_new = name_issuing_key(parts, unit)
        tell_start(parts, unit, VERSION)
        if is_new:
            detail = {"key": key_text(keys.issuing.public_key())}
            parts.record(unit, Event(EventKind.KEY_ROTATED, parts.clock(), actor="controller", detail=detail))
    return parts


def agents_app(parts: Parts) -> Litestar:
    """The application behind TLS."""
    routes = [
        *joining_routes(parts),
        *watching_routes(parts),
        *intake_routes(parts),
        *claim_routes(parts),
        *witnessing_routes(parts),
    ]
    return Litestar(
        routes,
        exception_handlers=HANDLERS,
        request_max_body_size=_AGENT_BODY,
        openapi_config=None,
        logging_config=None,
    )


def operators_app(parts: Parts) -> Litestar:
    """The application behind the unix socket."""
    description = OpenAPIConfig(
        title="Buckler", version=VERSION, path="/description", render_plugins=[JsonRenderPlugin()]
    )
    return Litestar(
        operator_routes(parts),
        exception_handlers=HANDLERS,
        request_max_body_size=_OPERATOR_BODY,
        openapi_config=description,
        logging_config=None,
    )


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    parts = await asyncio.to_thread(open_parts, settings)
    loop = asyncio.get_running_loop()
    parts.news.bind(loop)
    parts.work.bind(loop)
    agents = agents_listener(agents_app(parts), settings, Path(settings.state_dir) / "keys")
    operators = operators_listener(operators_app(parts))
    socket = open_operator_socket(Path(settings.socket))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_serving, agents, operators)
    tasks = [asyncio.create_task(Engine(parts).keep_publishing()), asyncio.create_task(keep_watch(parts))]
    _log.info("controller started", socket=settings.socket, agents=f"{settings.listen_address}:{settings.listen_port}")
    try:
        await serve_all((agents, None), (operators, [socket]))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        Path(settings.socket).unlink(missing_ok=True)
        parts.store.close()
        _log.info("controller stopped")
