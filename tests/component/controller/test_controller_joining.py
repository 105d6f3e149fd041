"""Joining, proving, and what a thief, a stranger or a flooder gets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.client.agentside import BadJoinToken, ControllerAway, ControllerRefused, join
from buckler.client.operator import OperatorFailed
from buckler.ledger.entry import read_entry
from buckler.model.agentapi import EventBatch, JoinRequest
from buckler.model.operatorapi.hosts import HostRequest
from buckler.policy.pool import link_local_address
from buckler.trust.statement import Kind, key_text, sign

from .conftest import Agent, ControllerProcess, wait_for
from .shop import SHOP, WEB_MAC


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    settings = {"token-lifetime": 4.0, "agent-lost-after": 3.0}
    process = ControllerProcess(tmp_path_factory.mktemp("controller"), **settings)
    process.start()
    yield process
    process.kill()


def request(token: str, name: str, key: Ed25519PrivateKey | None = None) -> JoinRequest:
    made = key or Ed25519PrivateKey.generate()
    return JoinRequest(token, name, key_text(made.public_key()), "192.0.2.9", (), "")


def call(controller: ControllerProcess, agent: Agent, method: str, path: str, **rest: object) -> httpx.Response:
    context = ssl.create_default_context(cadata=agent.answer.ca_certificate)
    with httpx.Client(base_url=controller.url, verify=context, timeout=20) as http:
        return http.request(method, path, **rest)  # type: ignore[arg-type]


def prove(controller: ControllerProcess, agent: Agent, key: Ed25519PrivateKey, nonce: str = "") -> httpx.Response:
    host = agent.host
    if not nonce:
        nonce = call(controller, agent, "POST", "/agent/v1/nonce", json={"host": host}).json()["nonce"]
    statement = sign(Kind.NONCE, nonce.encode(), key)
    return call(controller, agent, "POST", "/agent/v1/token", json={"host": host, "statement": statement})


def test_a_join_token_works_once(shared: ControllerProcess) -> None:
    token = shared.token()
    key = Ed25519PrivateKey.generate()
    first = join(shared.url, request(token, "once", key))
    assert join(shared.url, request(token, "once", key)).host == first.host  # the answer was lost, say
    with pytest.raises(ControllerRefused) as refused:
        join(shared.url, request(token, "twice"))
    assert refused.value.status == 401


def test_an_expired_token_and_one_for_another_name_are_refused(shared: ControllerProcess) -> None:
    short, named = shared.token(lifetime=0.2), shared.token("right")
    time.sleep(0.3)
    for token in (short, named):
        with pytest.raises(ControllerRefused) as refused:
            join(shared.url, request(token, "wrong"))
        assert refused.value.status == 401


def test_a_token_pins_the_pool(shared: ControllerProcess) -> None:
    token = shared.token()
    with pytest.raises(BadJoinToken):
        join(shared.url, request(token[:-64] + "0" * 64, "misled"))
    join(shared.url, request(token, "led"))


def test_a_guessed_secret_is_refused_and_leaves_the_token_unused(shared: ControllerProcess) -> None:
    token = shared.token()
    kind, number, secret, digest = token.split(".")
    guess = ("A" if secret[0] != "A" else "B") + secret[1:]
    with pytest.raises(ControllerRefused) as refused:
        join(shared.url, request(".".join((kind, number, guess, digest)), "guesser"))
    assert refused.value.status == 401
    join(shared.url, request(token, "owner"))


def test_a_taken_name_or_key_is_refused(shared: ControllerProcess) -> None:
    agent = Agent(shared, "taken", 1)
    for name, key in (("taken", None), ("other", agent.key)):
        with pytest.raises(ControllerRefused) as refused:
            join(shared.url, request(shared.token(), name, key))
        assert refused.value.status == 409


def test_a_description_that_cannot_be_used_names_everything_wrong(shared: ControllerProcess) -> None:
    bad = JoinRequest(shared.token(), "../etc", "no key", "nowhere", ("also nowhere",), "")
    with pytest.raises(ControllerRefused) as refused:
        join(shared.url, bad)
    assert refused.value.status == 400
    assert all(word in refused.value.problem["detail"] for word in ("name", "public_key", "fabric", "addresses"))


def test_a_nonce_works_once_and_only_for_its_host_and_key(shared: ControllerProcess) -> None:
    agent, other = Agent(shared, "prover", 2), Agent(shared, "other-prover", 3)
    assert prove(shared, agent, Ed25519PrivateKey.generate()).status_code == 401
    nonce = call(shared, agent, "POST", "/agent/v1/nonce", json={"host": agent.host}).json()["nonce"]
    assert prove(shared, agent, agent.key, nonce).status_code == 200
    assert prove(shared, agent, agent.key, nonce).status_code == 401
    foreign = call(shared, agent, "POST", "/agent/v1/nonce", json={"host": other.host}).json()["nonce"]
    assert prove(shared, agent, agent.key, foreign).status_code == 401
    assert prove(shared, agent, agent.key, "not-a-nonce").status_code == 401


def test_without_a_token_nothing_is_told(shared: ControllerProcess) -> None:
    agent = Agent(shared, "bare", 4)
    token = prove(shared, agent, agent.key).json()["token"]
    head, _, mac = token.partition(".")
    forged = f"{head}.{'0' * len(mac)}"
    for method, path in (("GET", "/agent/v1/watch?since=0"), ("POST", "/agent/v1/objects")):
        for bearer in ("", "Bearer", f"Bearer {forged}"):
            answer = call(
                shared, agent, method, path, json={"digests": ["sha256:0"]}, headers={"Authorization": bearer}
            )
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"


def test_the_operator_api_is_not_on_the_agents_side(shared: ControllerProcess) -> None:
    agent = Agent(shared, "climber", 5)
    token = prove(shared, agent, agent.key).json()["token"]
    answer = call(shared, agent, "GET", "/api/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 404


def test_a_stream_ends_with_its_token_and_a_stolen_token_with_it(shared: ControllerProcess) -> None:
    agent = Agent(shared, "streamer", 6)
    token = prove(shared, agent, agent.key).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    began = time.monotonic()
    answer = call(shared, agent, "GET", "/agent/v1/watch?since=0", headers=headers)
    assert answer.status_code == 200
    assert 2 < time.monotonic() - began < 8
    assert len(answer.text.splitlines()) >= 2
    assert call(shared, agent, "GET", "/agent/v1/watch?since=0", headers=headers).status_code == 401


def test_revocation_cuts_the_stream_and_every_door(shared: ControllerProcess) -> None:
    agent = Agent(shared, "revoked", 7)
    agent.start()
    with shared.operator() as client:
        wait_for("it is connected", lambda: client.host("revoked").connected)
        client.revoke("revoked", HostRequest(reason="stolen"))
    wait_for("the stream is cut", lambda: bool(agent.ends), 3)
    wait_for("it stays out", lambda: any(end.startswith("403") for end in agent.ends), 5)
    agent.stop()
    assert prove(shared, agent, agent.key).status_code == 403
    with shared.operator() as client, pytest.raises(OperatorFailed) as refused:
        client.undrain("revoked", HostRequest())
    assert refused.value.problem.status == 409


def test_an_agent_that_falls_silent_is_recorded_once(shared: ControllerProcess) -> None:
    agent = Agent(shared, "silent", 8)
    agent.start()
    with shared.operator() as client:
        wait_for("it is connected", lambda: client.host("silent").connected)
    agent.stop()

    def lost() -> int:
        with shared.operator() as client:
            entries = client.ledger_page(limit=10_000).entries
        told = [read_entry(each.entry) for each in entries]
        return sum(each.kind == "agent.lost" and each.host == agent.host for each in told)

    wait_for("the loss is recorded", lambda: lost() == 1, 15)
    time.sleep(3)
    assert lost() == 1


def test_bodies_are_bounded(shared: ControllerProcess) -> None:
    agent = Agent(shared, "bomber", 10)
    bomb = b'{"token": "' + b"A" * (5 * 1024 * 1024) + b'"}'
    answer = call(shared, agent, "POST", "/agent/v1/join", content=bomb, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413

    def drip() -> Iterator[bytes]:
        for _ in range(6):
            yield b"A" * 1024 * 1024

    answer = call(shared, agent, "POST", "/agent/v1/join", content=drip(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    deep = b"[" * 10_000
    answer = call(shared, agent, "POST", "/agent/v1/join", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    with shared.operator() as client:
        assert client.status().pool == "test"


def test_plain_text_and_old_tls_get_nothing(shared: ControllerProcess) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), 5) as plain:
        plain.settimeout(5)
        plain.sendall(b"GET /agent/v1/ca HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert b"certificate" not in plain.recv(4096)
    old = ssl.create_default_context()
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", shared.port), 5) as raw, pytest.raises(ssl.SSLError):
        old.wrap_socket(raw, server_hostname="127.0.0.1")


def test_gibberish_is_one_line_in_the_log(shared: ControllerProcess) -> None:
    before = shared.log().count("Invalid HTTP")
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(shared.socket)
        raw.sendall(b"\x00gibberish\r\n\r\n")
        raw.settimeout(5)
        raw.recv(4096)
    wait_for("it is logged", lambda: shared.log().count("Invalid HTTP") > before)
    time.sleep(0.1)
    assert shared.log().count("Invalid HTTP") == before + 1


def test_the_socket_is_roots_alone_and_secrets_are_nowhere_readable(shared: ControllerProcess) -> None:
    assert Path(shared.socket).stat().st_mode & 0o777 == 0o600
    keys = shared.folder / "state/keys"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (keys, *keys.iterdir()))
    assert (shared.folder / "state").stat().st_mode & 0o077 == 0


def test_too_many_failures_close_the_door_for_a_while(tmp_path: Path) -> None:
    process = ControllerProcess(tmp_path)
    process.start()
    try:
        agent = Agent(process, "flooder", 11)
        agent.client.send_events(EventBatch(()))
        codes = [prove(process, agent, Ed25519PrivateKey.generate()).status_code for _ in range(20)]
        assert codes == [401] * 20
        answer = call(process, agent, "POST", "/agent/v1/nonce", json={"host": agent.host})
        assert answer.status_code == 429
        agent.client.send_events(EventBatch(()))  # the token that it holds is as good as before
    finally:
        process.kill()
    with pytest.raises(ControllerAway):
        join(process.url, request("bjt1." + "0" * 16 + "." + "A" * 43 + "." + "0" * 64, "late"))


def test_whoever_joins_cannot_take_an_address_away(controller: ControllerProcess) -> None:
    controller.apply(*SHOP)
    token = controller.token()
    for address in ("10.0.0.1", "10.0.0.255", link_local_address(WEB_MAC)):
        key = Ed25519PrivateKey.generate()
        claim = JoinRequest(token, "thief", key_text(key.public_key()), "192.0.2.9", (address,), "")
        with pytest.raises(ControllerRefused) as refused:
            join(controller.url, claim)
        assert (refused.value.status, address in refused.value.problem["detail"]) == (409, True)
    join(controller.url, request(token, "thief"))
    with pytest.raises(ControllerRefused) as refused:
        join(controller.url, request(controller.token(), "Thief"))
    assert refused.value.status == 409
