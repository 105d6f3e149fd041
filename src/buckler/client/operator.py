"""The typed client of the operator API over its unix socket: one method per path of model.operatorapi.

Owns the calls and the translation of what goes wrong; decides nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from buckler.model.operatorapi import PREFIX, SOCKET
from buckler.model.operatorapi.answers import Explanation, NameAnswer, PolicyFinding, Reach, UnusedRules
from buckler.model.operatorapi.body import Problem
from buckler.model.operatorapi.documents import (
    ApplyRequest,
    ApplyResult,
    DiffResult,
    DocumentItem,
    LabelRequest,
    Reference,
)
from buckler.model.operatorapi.hosts import HostChange, HostRequest, HostView, JoinToken, JoinTokenRequest
from buckler.model.operatorapi.impact import Impact, ImpactRequest
from buckler.model.operatorapi.ledger import EntryProof, LedgerCheckpoint, LedgerKeys, LedgerPage
from buckler.model.operatorapi.pool import PoolStatus, Rogue, Unprotected
from buckler.model.operatorapi.revisions import RevisionPage, RevisionView, RollbackRequest, RollbackResult
from buckler.model.operatorapi.traffic import CounterItem, FlowItem, SampleItem, VmLoad
from buckler.model.operatorapi.vms import (
    AdoptRequest,
    BoundPolicy,
    HistoryEntry,
    MigrateRequest,
    PassportView,
    QuarantineRequest,
    TaskView,
    VmView,
)

T = TypeVar("T")
Query = dict[str, str | int | float]


class OperatorFailed(Exception):
    """The controller refused, or could not be spoken to (``problem.status`` 0). Carries every problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(": ".join(part for part in (problem.title, problem.detail) if part))
        self.problem = problem

    @property
    def is_unreachable(self) -> bool:
        """Say whether no controller answered at all."""
        return self.problem.status == 0


class OperatorClient:
    """A connection to one controller. Every method raises OperatorFailed and nothing else."""

    def __init__(self, socket: str = SOCKET, transport: httpx.BaseTransport | None = None) -> None:
        self._socket = socket
        self._http = httpx.Client(
            transport=transport or httpx.HTTPTransport(uds=socket),
            base_url="http://buckler",
            headers={"Accept": "application/json"},
        )

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    # documents

    def apply(self, request: ApplyRequest) -> ApplyResult:
        """Create, replace and delete documents, all or nothing."""
        return self._send("POST", "/apply", ApplyResult, body=request, patience=request.wait)

    def diff(self, request: ApplyRequest) -> DiffResult:
        """Say what ``apply`` would change."""
        return self._send("POST", "/diff", DiffResult, body=request)

    def documents(self, kind: str = "", tenant: str = "", selector: str = "") -> tuple[DocumentItem, ...]:
        """List documents; empty arguments do not narrow."""
        query = _query(kind=kind, tenant=tenant, selector=selector)
        return self._send("GET", "/documents", tuple[DocumentItem, ...], query=query)

    def document(self, kind: str, tenant: str, name: str) -> DocumentItem:
        """Get one document."""
        return self._send("GET", _path("documents", kind, tenant, name), DocumentItem)

    def delete(self, reference: Reference, *, dry_run: bool = False) -> ApplyResult:
        """Delete one document; with an etag only if nobody changed it since."""
        path = _path("documents", reference.kind, reference.tenant, reference.name)
        return self._send("DELETE", path, ApplyResult, query=_query(dryRun=dry_run), etag=reference.etag)

    def label(self, reference: Reference, request: LabelRequest) -> ApplyResult:
        """Set and remove labels of one document."""
        path = _path("documents", reference.kind, reference.tenant, reference.name, "labels")
        return self._send("PATCH", path, ApplyResult, body=request, etag=reference.etag, patience=request.wait)

    # revisions of the documents

    def revisions(self, below: int = 0, limit: int = 0) -> RevisionPage:
        """List what changed documents, newest first."""
        return self._send("GET", "/revisions", RevisionPage, query=_query(below=below, limit=limit))

    def revision(self, revision: int) -> RevisionView:
        """Show the documents of a revision."""
        return self._send("GET", _path("revisions", str(revision)), RevisionView)

    def compare(self, revision: int, to: int = 0) -> DiffResult:
        """Compare a revision's documents with another's; 0: with those in force."""
        return self._send("GET", _path("revisions", str(revision), "diff"), DiffResult, query=_query(to=to))

    def roll_back(self, revision: int, request: RollbackRequest) -> RollbackResult:
        """Put the documents of a revision back, as a new revision."""
        path = _path("revisions", str(revision), "rollback")
        return self._send("POST", path, RollbackResult, body=request, patience=request.wait)

    def impact(self, request: ImpactRequest) -> Impact:
        """Say which recorded connections would get another verdict."""
        return self._send("POST", "/impact", Impact, body=request)

    # VMs

    def vms(self, tenant: str = "", selector: str = "") -> tuple[VmView, ...]:
        """List registered VMs."""
        return self._send("GET", "/vms", tuple[VmView, ...], query=_query(tenant=tenant, selector=selector))

    def vm(self, vm: str, tenant: str = "") -> VmView:
        """Show one VM by name or id."""
        return self._send("GET", _path("vms", vm), VmView, query=_query(tenant=tenant))

    def adopt(self, request: AdoptRequest) -> VmView:
        """Register a domain that is a rogue until then."""
        return self._send("POST", "/vms/adopt", VmView, body=request)

    def passport(self, vm: str, tenant: str = "") -> PassportView:
        """Show the signed statement about a VM."""
        return self._send("GET", _path("vms", vm, "passport"), PassportView, query=_query(tenant=tenant))

    def bound_policy(self, vm: str, tenant: str = "", at: float = 0, host: str = "") -> tuple[BoundPolicy, ...]:
        """Get what policy bound a VM, at one moment (Unix seconds) or ever, on one host or all, oldest first."""
        query = _query(tenant=tenant, at=at, host=host)
        return self._send("GET", _path("vms", vm, "policy"), tuple[BoundPolicy, ...], query=query)

    def history(self, vm: str, tenant: str = "", limit: int = 0) -> tuple[HistoryEntry, ...]:
        """Tell a VM's life, oldest first; the newest ``limit`` entries (0: all)."""
        query = _query(tenant=tenant, limit=limit)
        return self._send("GET", _path("vms", vm, "history"), tuple[HistoryEntry, ...], query=query)

    def samples(self, vm: str, tenant: str = "", since: float = 0, limit: int = 0) -> tuple[SampleItem, ...]:
        """Get what a VM had used by each sample since then, oldest first; the newest ``limit`` (0: as many as are told)."""
        query = _query(tenant=tenant, since=since, limit=limit)
        return self._send("GET", _path("vms", vm, "samples"), tuple[SampleItem, ...], query=query)

    def load(self, tenant: str = "", seconds: float = 60) -> tuple[VmLoad, ...]:
        """Get the newest sample of every VM, and an earlier one to compare it with."""
        return self._send("GET", "/load", tuple[VmLoad, ...], query=_query(tenant=tenant, seconds=seconds))

    def quarantine(self, vm: str, request: QuarantineRequest, tenant: str = "") -> VmView:
        """Cut a VM off, at both ends of everything."""
        query, path = _query(tenant=tenant), _path("vms", vm, "quarantine")
        return self._send("POST", path, VmView, body=request, query=query, patience=request.wait)

    def release(self, vm: str, request: QuarantineRequest, tenant: str = "") -> VmView:
        """End a quarantine."""
        query, path = _query(tenant=tenant), _path("vms", vm, "release")
        return self._send("POST", path, VmView, body=request, query=query, patience=request.wait)

    def migrate(self, vm: str, request: MigrateRequest, tenant: str = "") -> TaskView:
        """Ask a VM's host to move it live."""
        return self._send("POST", _path("vms", vm, "migrate"), TaskView, body=request, query=_query(tenant=tenant))

    # hosts

    def hosts(self) -> tuple[HostView, ...]:
        """List the pool's hosts."""
        return self._send("GET", "/hosts", tuple[HostView, ...])

    def host(self, host: str) -> HostView:
        """Show one host by name or id."""
        return self._send("GET", _path("hosts", host), HostView)

    def drain(self, host: str, request: HostRequest) -> HostChange:
        """Take no VM any more and move away those that are there."""
        return self._send("POST", _path("hosts", host, "drain"), HostChange, body=request)

    def undrain(self, host: str, request: HostRequest) -> HostChange:
        """Take VMs again."""
        return self._send("POST", _path("hosts", host, "undrain"), HostChange, body=request)

    def revoke(self, host: str, request: HostRequest) -> HostChange:
        """End a host's membership at once."""
        return self._send("POST", _path("hosts", host, "revoke"), HostChange, body=request)

    def create_join_token(self, request: JoinTokenRequest) -> JoinToken:
        """Make a single-use token for a new host."""
        return self._send("POST", "/join-tokens", JoinToken, body=request)

    # answers about the pool

    def explain(self, origin: str, to: str, protocol: str, port: int, tenant: str = "") -> Explanation:
        """Say what both ends' shields would do, and why."""
        query = _query(protocol=protocol, tenant=tenant) | {"from": origin, "to": to, "port": port}
        return self._send("GET", "/explain", Explanation, query=query)

    def reach(self, tenant: str = "", *, origin: str = "", to: str = "") -> Reach:
        """Get the matrix of what may be sent between all, or only from or to a VM, an endpoint, the host or addresses outside."""
        query = _query(tenant=tenant, to=to) | _query(**{"from": origin})
        return self._send("GET", "/reach", Reach, query=query)

    def policy_findings(self) -> tuple[PolicyFinding, ...]:
        """Get what is odd about policies: shadowed, unmatched, in conflict, due for review."""
        return self._send("GET", "/policy-findings", tuple[PolicyFinding, ...])

    def flows(
        self, verdict: str = "", origin: str = "", to: str = "", after: int = 0, limit: int = 0, tenant: str = ""
    ) -> tuple[FlowItem, ...]:
        """Get recorded flows, oldest first."""
        query = _flow_query(verdict, origin, to, after, limit, tenant)
        return self._send("GET", "/flows", tuple[FlowItem, ...], query=query)

    def follow_flows(
        self, verdict: str = "", origin: str = "", to: str = "", after: int = 0, limit: int = 0, tenant: str = ""
    ) -> Iterator[FlowItem]:
        """Yield flows as they are recorded, until the controller goes away."""
        query = _flow_query(verdict, origin, to, after, limit, tenant) | {"follow": "true"}
        try:
            with self._http.stream("GET", PREFIX + "/flows", params=query, timeout=httpx.Timeout(30)) as response:
                if response.is_error:
                    response.read()
                    raise OperatorFailed(_problem_of(response))
                for line in response.iter_lines():
                    if line.strip():
                        yield _decode(line.encode(), FlowItem)
        except httpx.HTTPError as error:
            raise OperatorFailed(self._unreachable(error)) from error

    def counters(self, verdict: str = "", origin: str = "", to: str = "", tenant: str = "") -> tuple[CounterItem, ...]:
        """Get totals per rule and pair of ends."""
        query = _query(verdict=verdict, to=to, tenant=tenant) | _query(**{"from": origin})
        return self._send("GET", "/counters", tuple[CounterItem, ...], query=query)

    def names(self) -> tuple[NameAnswer, ...]:
        """List answers for names."""
        return self._send("GET", "/names", tuple[NameAnswer, ...])

    def unused(self, days: int = 0) -> UnusedRules:
        """List rules that met no packet for some days; 0: ever."""
        return self._send("GET", "/unused", UnusedRules, query=_query(days=days))

    def tasks(self) -> tuple[TaskView, ...]:
        """List what hosts were asked to do."""
        return self._send("GET", "/tasks", tuple[TaskView, ...])

    def task(self, task: str) -> TaskView:
        """Show one task."""
        return self._send("GET", _path("tasks", task), TaskView)

    def status(self) -> PoolStatus:
        """Get the pool's state, host by host."""
        return self._send("GET", "/status", PoolStatus)

    def unprotected(self) -> tuple[Unprotected, ...]:
        """List VMs whose shield does not enforce."""
        return self._send("GET", "/unprotected", tuple[Unprotected, ...])

    def rogues(self) -> tuple[Rogue, ...]:
        """List domains that nobody registered."""
        return self._send("GET", "/rogues", tuple[Rogue, ...])

    def ledger_page(self, after: int = 0, limit: int = 1000) -> LedgerPage:
        """Get entries in order."""
        return self._send("GET", "/ledger/entries", LedgerPage, query=_query(after=after, limit=limit))

    def ledger_checkpoint(self) -> LedgerCheckpoint:
        """Get the newest checkpoint, and what hosts cosigned."""
        return self._send("GET", "/ledger/checkpoint", LedgerCheckpoint)

    def entry_proof(self, number: int) -> EntryProof:
        """Get what proves one entry."""
        return self._send("GET", _path("ledger", "entries", str(number), "proof"), EntryProof)

    def ledger_keys(self) -> LedgerKeys:
        """Get what a verifier needs beside the entries."""
        return self._send("GET", "/ledger/keys", LedgerKeys)

    def metrics(self) -> str:
        """Get Prometheus text."""
        return self._request("GET", "/metrics").text

    def openapi(self) -> dict[str, Any]:
        """Get the API's own description."""
        return self._send("GET", "/openapi.json", dict[str, Any])

    def _send(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: msgspec.Struct | None = None,
        query: Query | None = None,
        etag: str = "",
        patience: float = 0,
    ) -> T:
        return _decode(self._request(method, path, body, query, etag, patience).content, answer)

    def _request(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | None = None,
        query: Query | None = None,
        etag: str = "",
        patience: float = 0,
    ) -> httpx.Response:
        headers = {"If-Match": etag} if etag else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = msgspec.json.encode(body)
        timeout = httpx.Timeout(60 + patience, connect=5)
        try:
            response = self._http.request(
                method, PREFIX + path, params=query, content=content, headers=headers, timeout=timeout
            )
        except httpx.HTTPError as error:
            raise OperatorFailed(self._unreachable(error)) from error
        if not response.is_success:
            raise OperatorFailed(_problem_of(response))
        return response

    def _unreachable(self, error: httpx.HTTPError) -> Problem:
        return Problem(title=f"no controller answers at {self._socket}", status=0, detail=str(error))


def _query(**wanted: str | int | float | bool) -> Query:
    """Leave out what is empty; write truth as JSON does."""
    return {name: "true" if value is True else value for name, value in wanted.items() if value}


def _flow_query(verdict: str, origin: str, to: str, after: int, limit: int, tenant: str) -> Query:
    query = _query(verdict=verdict, to=to, after=after, limit=limit, tenant=tenant)
    return query | {"from": origin} if origin else query


def _path(*parts: str) -> str:
    return "".join("/" + quote(part, safe="") for part in parts)


def _decode(content: bytes, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = f"{error}; client and controller may be of different versions"
        raise OperatorFailed(Problem("the controller's answer is not understood", 502, detail)) from error


def _problem_of(response: httpx.Response) -> Problem:
    """Read the problem of an error answer; one that is none of ours keeps its status and a little of its text."""
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Problem(f"the controller answered {response.status_code}", response.status_code, response.text[:200])
