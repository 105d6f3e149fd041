"""The agent's typed client of /agent/v1: TLS pinned to the pool root, tokens kept fresh. Believes no statement."""

from __future__ import annotations

import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from buckler.model.agentapi import (
    MOST_WANTED,
    Acknowledgement,
    CaCertificate,
    ClaimBatch,
    ClaimsAnswered,
    ConsistencyProof,
    Cosigned,
    CounterReport,
    EventBatch,
    EventsStored,
    FlowBatch,
    JoinRequest,
    JoinResponse,
    NameBatch,
    NonceRequest,
    NonceResponse,
    ObjectsWanted,
    Observation,
    SampleBatch,
    SamplesStored,
    StreamMessage,
    TaskReport,
    TokenRequest,
    TokenResponse,
)
from buckler.model.ids import Digest, HostId, Revision
from buckler.policy.walk import MAX_BYTES
from buckler.trust.statement import Kind, key_text, sign

_T = TypeVar("_T")
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_HEARTBEAT_TIMEOUT = 15.0
MAX_ANSWER = 64 * 1024 * 1024
"""Of one answer, or one line of the stream. Nothing is packed, so nothing grows when it is read."""
MOST_SECONDS = 300.0
"""For the same, from its first byte on: who sends a byte now and then is as good as away, and another controller is asked."""
_PLAIN = {"Accept-Encoding": "identity"}
_TOKEN_MARGIN = 30.0


class ControllerAway(Exception):
    """No controller answered; try again later."""


class ControllerRefused(Exception):
    """A controller answered, and refused. ``problem`` is its RFC 9457 document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail') or problem.get('title') or 'refused'}")
        self.status = status
        self.problem = problem


class BadJoinToken(ValueError):
    """The text is no join token, or the controller that answered is not the one that it names."""


class ControllerClient:
    """One client per thread of use is not needed: httpx's is safe, and the token is kept behind a lock."""

    def __init__(
        self,
        url: str,
        host: HostId,
        key: Ed25519PrivateKey,
        ca_certificate: str,
        hear_time: Callable[[float], None] = lambda _at: None,
    ) -> None:
        self._host = host
        self._key = key
        self._hear_time = hear_time
        self._http = httpx.Client(
            base_url=url,
            verify=_pinned(ca_certificate),
            timeout=_TIMEOUT,
            trust_env=False,
            headers=_PLAIN,
            event_hooks={"response": [self._note_time]},
        )
        self._lock = threading.Lock()
        self._token = ""
        self._valid_until = 0.0

    def close(self) -> None:
        self._http.close()

    def _note_time(self, response: httpx.Response) -> None:
        """The controller's clock, to the second, as it says in each answer (RFC 9110, 6.6.1)."""
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            self._hear_time(parsedate_to_datetime(response.headers["date"]).timestamp())

    def watch(self, since: Revision, is_over: Callable[[], bool]) -> Iterator[StreamMessage]:
        """Yield what the stream says until it ends, which it does with the token: call again with the newest revision."""
        timeout = httpx.Timeout(10.0, connect=5.0, read=_HEARTBEAT_TIMEOUT)
        with (
            _translated(),
            self._http.stream(
                "GET", "/agent/v1/watch", params={"since": since}, headers=self._bearer(), timeout=timeout
            ) as response,
        ):
            if response.status_code >= 400:
                self._check(response, _read(response))
            for line in _lines(response.iter_raw()):
                if is_over():
                    return
                yield msgspec.json.decode(line, type=StreamMessage)

    def objects(self, wanted: Iterable[Digest]) -> dict[Digest, bytes]:
        """Fetch contents; what they are is for the caller to check. Raises ControllerAway, ControllerRefused."""
        found: dict[Digest, bytes] = {}
        left, size = sorted(wanted), 0
        while left:
            asked = left[:MOST_WANTED]
            lines = self._request("POST", "/agent/v1/objects", ObjectsWanted(tuple(asked))).split(b"\n")
            if not 0 < len(lines) <= len(asked):
                raise ControllerAway("the controller gave no objects")
            found.update(zip(asked, lines, strict=False))
            size += sum(map(len, lines))
            if size > MAX_BYTES:
                raise ControllerAway("the controller gave too much")
            left = left[len(lines) :]
        return found

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        return self._call("GET", f"/agent/v1/ledger/consistency?old={old}&new={new}", None, ConsistencyProof)

    def send_cosigned(self, cosigned: Cosigned) -> None:
        self._call("POST", "/agent/v1/ledger/cosignature", cosigned, None)

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        self._call("POST", "/agent/v1/ack", acknowledgement, None)

    def send_events(self, batch: EventBatch) -> EventsStored:
        return self._call("POST", "/agent/v1/events", batch, EventsStored)

    def send_observation(self, observation: Observation) -> None:
        self._call("PUT", "/agent/v1/observed", observation, None)

    def send_flows(self, batch: FlowBatch) -> None:
        self._call("POST", "/agent/v1/flows", batch, None)

    def send_counters(self, report: CounterReport) -> None:
        self._call("PUT", "/agent/v1/counters", report, None)

    def send_samples(self, batch: SampleBatch) -> SamplesStored:
        return self._call("POST", "/agent/v1/samples", batch, SamplesStored)

    def send_claims(self, batch: ClaimBatch) -> ClaimsAnswered:
        return self._call("POST", "/agent/v1/claims", batch, ClaimsAnswered)

    def send_names(self, batch: NameBatch) -> ClaimsAnswered:
        return self._call("POST", "/agent/v1/names", batch, ClaimsAnswered)

    def report_task(self, report: TaskReport) -> None:
        self._call("POST", "/agent/v1/tasks", report, None)

    def _call(self, method: str, path: str, body: msgspec.Struct | None, answer: type[_T] | None) -> _T:
        content = self._request(method, path, body)
        if answer is None:
            return None  # type: ignore[return-value]
        with _translated():
            return msgspec.json.decode(content, type=answer)

    def _request(self, method: str, path: str, body: msgspec.Struct | None) -> bytes:
        with _translated():
            response, content = _ask(self._http, method, path, body, self._bearer())
            if response.status_code == 401:  # a controller that restarted does not know old tokens
                self._forget_token()
                response, content = _ask(self._http, method, path, body, self._bearer())
            self._check(response, content)
            return content

    def _check(self, response: httpx.Response, content: bytes) -> None:
        if response.status_code == 401:
            self._forget_token()
        _raise_refusal(response, content)

    def _bearer(self) -> dict[str, str]:
        with self._lock:
            if time.monotonic() >= self._valid_until:
                self._refresh()
            return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}

    def _forget_token(self) -> None:
        with self._lock:
            self._valid_until = 0.0

    def _refresh(self) -> None:
        nonce = _post(self._http, "/agent/v1/nonce", NonceRequest(self._host), NonceResponse).nonce
        statement = sign(Kind.NONCE, nonce.encode(), self._key)
        answer = _post(self._http, "/agent/v1/token", TokenRequest(self._host, statement), TokenResponse)
        self._token = answer.token
        self._valid_until = time.monotonic() + max(answer.expires_in - _TOKEN_MARGIN, answer.expires_in / 2)


def join(url: str, request: JoinRequest) -> JoinResponse:
    """Join a pool, believing nothing but the digest in the token. Raises BadJoinToken, ControllerAway, ControllerRefused."""
    digest = _token_digest(request.token)
    with _translated(), httpx.Client(base_url=url, verify=False, timeout=_TIMEOUT, trust_env=False) as unverified:  # noqa: S501 - the digest in the token decides
        response, content = _ask(unverified, "GET", "/agent/v1/ca", None, _PLAIN)
        _raise_refusal(response, content)
        pem = msgspec.json.decode(content, type=CaCertificate).certificate
    root_key = _check_certificate(pem, digest)
    with _translated(), httpx.Client(base_url=url, verify=_pinned(pem), timeout=_TIMEOUT, trust_env=False) as http:
        answer = _post(http, "/agent/v1/join", request, JoinResponse)
    if answer.root_key != root_key:
        raise BadJoinToken("the controller names another root key than its certificate holds")
    return msgspec.structs.replace(answer, ca_certificate=pem)


def _token_digest(token: str) -> str:
    parts = token.strip().split(".")
    if len(parts) != 4 or parts[0] != "bjt1" or len(parts[3]) != 64:
        raise BadJoinToken("not a join token: it looks like bjt1.<id>.<secret>.<digest>")
    return parts[3]


def _check_certificate(pem: str, digest: str) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise BadJoinToken("the controller sent no certificate") from error
    key = certificate.public_key()
    if hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest() != digest:
        raise BadJoinToken("the controller that answered is not the one that made the token")
    if not isinstance(key, Ed25519PublicKey):
        raise BadJoinToken("the pool's certificate holds no Ed25519 key")
    return key_text(key)


def _pinned(pem: str) -> ssl.SSLContext:
    """Trust exactly one certificate, and nothing of the system's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=pem)
    return context


def _post(http: httpx.Client, path: str, body: msgspec.Struct, answer: type[_T]) -> _T:
    response, content = _ask(http, "POST", path, body, {**_PLAIN, "Content-Type": "application/json"})
    _raise_refusal(response, content)
    return msgspec.json.decode(content, type=answer)


def _ask(
    http: httpx.Client, method: str, path: str, body: msgspec.Struct | None, headers: dict[str, str]
) -> tuple[httpx.Response, bytes]:
    sent = None if body is None else msgspec.json.encode(body)
    with http.stream(method, path, content=sent, headers=headers) as response:
        return response, _read(response)


def _read(response: httpx.Response) -> bytes:
    """Read an answer as it came, within bounds: who answers may be somebody else by now."""
    parts, size, until = list[bytes](), 0, time.monotonic() + MOST_SECONDS
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER or time.monotonic() > until:
            raise httpx.RemoteProtocolError("an answer is too long, or takes too long")
    return b"".join(parts)


def _raise_refusal(response: httpx.Response, content: bytes) -> None:
    if response.status_code < 400:
        return
    try:
        problem = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        problem = {"title": response.reason_phrase}
    raise ControllerRefused(response.status_code, problem)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut a stream into lines. Each byte is looked at once, however long a line is."""
    parts, size, until = list[bytes](), 0, time.monotonic() + MOST_SECONDS
    for chunk in chunks:
        whole, end, rest = chunk.rpartition(b"\n")
        if end:
            yield from (line for line in b"".join((*parts, whole)).split(b"\n") if line.strip())
            parts, size, until = [], 0, time.monotonic() + MOST_SECONDS
        parts.append(rest)
        size += len(rest)
        if size > MAX_ANSWER or time.monotonic() > until:
            raise httpx.RemoteProtocolError("a line of the stream is too long, or takes too long")


class _translated:  # noqa: N801 - reads as the context that it is
    """httpx's and msgspec's exceptions become ours; a controller that speaks gibberish is as good as away."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | msgspec.DecodeError | ssl.SSLError | OSError):
            raise ControllerAway(str(error) or type(error).__name__) from error
