"""Every error as an RFC 9457 problem. Owns the form of refusals, not the decision to refuse."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from buckler.model.operatorapi.body import Issue, Problem
from buckler.ports.store import StoreFailed

_log = structlog.get_logger("buckler.controller")
_TYPE = "application/problem+json"


class Refused(Exception):
    """A request that is refused; ``extra`` becomes further members of the problem."""

    def __init__(self, status: int, title: str, detail: str = "", issues: tuple[Issue, ...] = (), **extra: Any) -> None:
        super().__init__(title)
        self.problem = Problem(title=title, status=status, detail=detail, problems=issues)
        self.extra = extra


def answer_refused(_request: Request[Any, Any, Any], refused: Refused) -> Response[bytes]:
    """Answer a refusal of ours."""
    return _answer(refused.problem, refused.extra)


def answer_http(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework refused: unknown paths, malformed bodies, bodies that are too large."""
    detail = error.detail
    issues: tuple[Issue, ...] = ()
    if isinstance(error.extra, list):
        issues = tuple(
            Issue(message=str(item.get("message", item)), path=str(item.get("key", ""))) for item in error.extra
        )
    title = {400: "malformed request", 404: "no such path", 405: "no such method", 413: "body too large"}
    return _answer(Problem(title.get(error.status_code, "refused"), error.status_code, detail, problems=issues))


def answer_store_failed(request: Request[Any, Any, Any], error: StoreFailed) -> Response[bytes]:
    """The store is away or full: nothing happened, and the caller may try again."""
    _log.error("the store failed", path=request.url.path, error=str(error))
    return _answer(Problem("the store failed; nothing was changed", 503, str(error)))


def answer_too_deep(_request: Request[Any, Any, Any], _error: RecursionError) -> Response[bytes]:
    """A body nested beyond all sense: the decoder gives up before anything is understood."""
    return _answer(Problem("malformed request", 400, "nested too deeply"))


def answer_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A fault of ours: logged in full, told in short."""
    _log.error("a request failed", path=request.url.path, exc_info=error)
    return _answer(Problem("the controller failed; nothing was changed", 500, type(error).__name__))


def _answer(problem: Problem, extra: dict[str, Any] | None = None) -> Response[bytes]:
    body = msgspec.to_builtins(problem) | (extra or {})
    return Response(msgspec.json.encode(body), status_code=problem.status, media_type=_TYPE)


HANDLERS: dict[Any, Any] = {
    Refused: answer_refused,
    HTTPException: answer_http,
    RecursionError: answer_too_deep,
    StoreFailed: answer_store_failed,
    Exception: answer_unforeseen,
}
