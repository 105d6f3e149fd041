from __future__ import annotations

from collections.abc import Callable

import httpx
import msgspec
import pytest

from buckler.client.operator import OperatorClient, OperatorFailed
from buckler.model.operatorapi.body import Issue, Problem
from buckler.model.operatorapi.documents import ApplyResult, Reference

Handler = Callable[[httpx.Request], httpx.Response]


def client_of(handler: Handler) -> OperatorClient:
    return OperatorClient("/nowhere.sock", transport=httpx.MockTransport(handler))


def refusal(handler: Handler) -> Problem:
    with client_of(handler) as client, pytest.raises(OperatorFailed) as failed:
        client.status()
    return failed.value.problem


def test_a_problem_keeps_every_single_one() -> None:
    problem = Problem("bad", 422, problems=(Issue("x", "f", 3), Issue("y")))
    assert refusal(lambda _: httpx.Response(422, content=msgspec.json.encode(problem))) == problem


@pytest.mark.parametrize("content", [b"<html>gateway</html>", b"", b"[1]", b"\xff"])
def test_an_error_that_is_no_problem_of_ours_keeps_its_status(content: bytes) -> None:
    assert refusal(lambda _: httpx.Response(500, content=content)).status == 500


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff", b'{"pool": 7}'])
def test_an_answer_that_is_not_understood_is_never_taken_for_one(content: bytes) -> None:
    assert refusal(lambda _: httpx.Response(200, content=content)).status == 502


def test_a_redirect_is_no_answer() -> None:
    assert refusal(lambda _: httpx.Response(302, headers={"Location": "http://elsewhere"})).status == 302


def test_nobody_there_is_status_0() -> None:
    with OperatorClient("/nowhere.sock") as client, pytest.raises(OperatorFailed) as failed:
        client.status()
    assert failed.value.is_unreachable


def test_names_are_quoted_and_the_etag_is_sent() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=msgspec.json.encode(ApplyResult(0, ())))

    with client_of(answer) as client:
        client.delete(Reference("Policy", "a/../b?c", "shop", etag='"7"'), dry_run=True)
    assert seen[0].url.raw_path == b"/api/v1/documents/Policy/shop/a%2F..%2Fb%3Fc?dryRun=true"
    assert seen[0].headers["If-Match"] == '"7"'


def test_following_skips_heartbeats_and_ends_with_the_controller() -> None:
    flow = (
        b'{"cursor": 4, "flow": {"at": 1, "host": "h", "local": "a", "peer": "b", "direction": "egress", '
        b'"verdict": "deny", "reason": "", "protocol": "TCP", "source": "", "destination": "", '
        b'"source_port": 1, "destination_port": 2}}\n'
    )
    with client_of(lambda _: httpx.Response(200, content=b"\n" + flow + b"\n\n" + flow)) as client:
        assert [item.cursor for item in client.follow_flows()] == [4, 4]
    with client_of(lambda _: httpx.Response(404, content=b"")) as client, pytest.raises(OperatorFailed):
        list(client.follow_flows())
