"""A real controller process on the loopback with TLS and its unix socket, and test agents of the real client."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.recorder import Recorder
from buckler.agent.witness import witness_of
from buckler.agent.witnessing import Witnessing
from buckler.client.agentside import ControllerAway, ControllerClient, ControllerRefused, join
from buckler.client.operator import OperatorClient, OperatorFailed
from buckler.drivers.inmemory.state import InMemoryState
from buckler.model.agentapi import (
    Acknowledgement,
    Issuers,
    JoinRequest,
    JoinResponse,
    Observation,
    ObservedDomain,
    StreamMessage,
    Task,
)
from buckler.model.bundle import Manifest, Member
from buckler.model.event import Event, EventKind
from buckler.model.ids import Revision
from buckler.model.operatorapi.documents import ApplyRequest, ApplyResult, SourceFile
from buckler.model.operatorapi.hosts import JoinTokenRequest
from buckler.policy.bundle import Bundle
from buckler.policy.walk import Place, read_node
from buckler.policy.whole import join_bundle
from buckler.ports.state import Membership, State
from buckler.trust.statement import KeySet, Kind, key_from_text, key_id, key_text, verify
from tests.component.controller.nursery import Nursery
from tests.postgresql import run_postgresql

NURSERIES: list[Nursery] = []


def wait_for(what: str, is_so: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what}")


ELSEWHERE = "203.0.113.99"
"""Another address of the controller's, which no agent asks."""


class ControllerProcess:
    """``buckler controller run`` in a folder of its own; started and killed as often as a test wants."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.settings = settings
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.socket = str(folder / "api.sock")
        self._pid = 0

    def start(self, **environment: str) -> None:
        config = self.folder / "controller.yaml"
        listen = {"listen-address": "127.0.0.1", "listen-port": self.port, "names": ["127.0.0.1", ELSEWHERE]}
        given = {
            "pool": "test",
            "state-dir": str(self.folder / "state"),
            "socket": self.socket,
            **listen,
            **self.settings,
        }
        config.write_bytes(msgspec.json.encode(given))
        if not NURSERIES:
            NURSERIES.append(Nursery())
        command = ["controller", "run", "--config", str(config)]
        self._pid = NURSERIES[0].start(command, str(self.folder / "log"), environment)
        wait_for("the controller answers", self._answers, 60)

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self.wait_ended()

    def stop(self) -> int:
        os.kill(self._pid, signal.SIGTERM)
        return self.wait_ended()

    def wait_ended(self) -> int:
        codes: list[int] = []

        def has_ended() -> bool:
            code = NURSERIES[0].exit_code(self._pid)
            codes.extend([] if code is None else [code])
            return bool(codes)

        assert self._pid
        wait_for("the controller ended", has_ended)
        self._pid = 0
        return codes[0]

    def operator(self) -> OperatorClient:
        return OperatorClient(self.socket)

    def apply(self, *texts: str, wait: float = 0) -> ApplyResult:
        with self.operator() as client:
            files = tuple(SourceFile(f"file{number}.yaml", text) for number, text in enumerate(texts))
            return client.apply(ApplyRequest(files=files, wait=wait))

    def token(self, host: str = "", lifetime: float = 60) -> str:
        with self.operator() as client:
            return client.create_join_token(JoinTokenRequest(host, lifetime)).token

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _answers(self) -> bool:
        code = NURSERIES[0].exit_code(self._pid)
        assert code is None, f"ended with {code}: {self.log()}"
        try:
            with self.operator() as client:
                client.status()
        except OperatorFailed:
            return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Agent:
    """An agent without a kernel: it takes manifests, checks every signature, and acknowledges when told to."""

    def __init__(self, controller: ControllerProcess, name: str, number: int) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.generate()
        self.request = JoinRequest(
            token=controller.token(name),
            name=name,
            public_key=key_text(self.key.public_key()),
            fabric=f"192.0.2.{number}",
            addresses=(f"198.51.100.{number}",),
            migrate_uri=f"qemu+tcp://192.0.2.{number}/system",
        )
        self.answer: JoinResponse = join(controller.url, self.request)
        self.client = ControllerClient(controller.url, self.answer.host, self.key, self.answer.ca_certificate)
        self.root = key_from_text(self.answer.root_key)
        self.issuers = self._issuers(self.answer.issuers)
        self.manifests: list[Manifest] = []
        self.tasks: list[Task] = []
        self.acknowledges = True
        self.ends: list[str] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def host(self) -> str:
        return self.answer.host

    @property
    def newest(self) -> Manifest | None:
        return self.manifests[-1] if self.manifests else None

    def start(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tell_over(self) -> None:
        self._over.set()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(10)

    def acknowledge(self) -> None:
        if self.newest is not None:
            self.client.acknowledge(Acknowledgement(self.newest.revision, time.time()))

    def observe(self, *domains: ObservedDomain) -> None:
        revision = self.newest.revision if self.newest else Revision(0)
        self.client.send_observation(Observation(time.time(), revision, domains))

    def policy(self) -> Bundle:
        """What the newest manifest leads to, object by object."""
        assert self.newest is not None
        return join_bundle(self.newest.root, {}, self.client.objects)

    def members(self) -> tuple[Member, ...]:
        assert self.newest is not None
        name = (Place.MEMBERS, self.newest.members)
        return read_node(name, self.client.objects([name[1]])[name[1]]).value.members  # type: ignore[no-any-return]

    def _run(self) -> None:
        while not self._over.is_set():
            since = self.newest.revision if self.newest else Revision(0)
            try:
                for message in self.client.watch(since, self._over.is_set):
                    self._take(message)
                self.ends.append("over")
            except (ControllerAway, ControllerRefused) as error:
                self.ends.append(str(error))
                self._over.wait(0.1)

    def _take(self, message: StreamMessage) -> None:
        if message.issuers:
            self.issuers = self._issuers(message.issuers)
        if message.task:
            self.tasks.append(msgspec.json.decode(verify(Kind.TASK, message.task, self.issuers), type=Task))
        if message.manifest:
            manifest = msgspec.json.decode(verify(Kind.MANIFEST, message.manifest, self.issuers), type=Manifest)
            assert manifest.host == self.host
            assert self.newest is None or manifest.revision > self.newest.revision
            self.manifests.append(manifest)
            if self.acknowledges:
                self.acknowledge()

    def _issuers(self, statement: str) -> KeySet:
        payload = verify(Kind.ISSUERS, statement, {key_id(self.root): self.root})
        keys = [key_from_text(text) for text in msgspec.json.decode(payload, type=Issuers).keys]
        return {key_id(key): key for key in keys}


@pytest.fixture(scope="session", autouse=True)
def nursery() -> Iterator[None]:
    yield
    while NURSERIES:
        NURSERIES.pop().close()


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    with run_postgresql() as socket:
        yield socket


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    process = ControllerProcess(tmp_path)
    process.start()
    yield process
    process.kill()


@pytest.fixture
def agents(controller: ControllerProcess) -> Iterator[list[Agent]]:
    found = [Agent(controller, f"host-{letter}", number) for number, letter in enumerate("ab", 1)]
    yield found
    for agent in found:
        agent.tell_over()
    controller.kill()
    for agent in found:
        agent.stop()


class WitnessingHost:
    """The witnessing part of an agent, on a state of its own."""

    def __init__(self, agent: Agent, state: State) -> None:
        self.agent, self.state = agent, state
        membership = Membership("test", agent.answer.host, agent.name, (), agent.answer.root_key, "")
        self.witness = witness_of(state, membership)
        self.witnessing = Witnessing(self.witness, Recorder(state, agent.answer.host, lambda: None))

    def see(self, controller: ControllerProcess) -> None:
        with controller.operator() as client:
            note = client.ledger_checkpoint().note
        self.witnessing.take(self.agent.client, note, self.agent.issuers)

    def refusals(self) -> list[Event]:
        return [event for event in self.state.pending(100) if event.kind is EventKind.WITNESS_REFUSED]


@pytest.fixture
def host(agents: list[Agent]) -> WitnessingHost:
    state = InMemoryState()
    state._key = agents[0].key.private_bytes_raw()
    return WitnessingHost(agents[0], state)
