"""The command line against a real controller that listens on its unix socket: no host has joined."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from buckler.__main__ import main
from buckler.client.operator import OperatorClient, OperatorFailed

SHOP = Path(__file__).parents[2] / "examples" / "shop"
TENANT = ("-n", "shop")
BAD = """\
apiVersion: buckler.io/v1
kind: Policy
metadata: {name: bad}
spec:
  description: two problems
  owner: nobody
  reason: to see them
  review: 2027-01-01
  subject: {}
  ingress:
    - {name: a, action: mirror}
    - {name: b, action: allow, ports: [{protocol: TCP, port: 70000}]}
"""


class Told(NamedTuple):
    """What a command ended with and said."""

    code: int
    out: str
    err: str


class Pool:
    """A controller's socket, and the command line at it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def __call__(self, *arguments: str, stdin: str | None = None) -> Told:
        result = CliRunner().invoke(main, ["--socket", str(self.socket), *arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Told(result.exit_code, result.stdout, result.stderr)

    def json(self, *arguments: str) -> object:
        told = self(*arguments, "-o", "json")
        assert told.code == 0, told
        return json.loads(told.out)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("controller")
    socket = folder / "api.sock"
    command = [sys.executable, "-m", "buckler", "controller", "run", "--state-dir", str(folder / "state")]
    command += ["--socket", str(socket), "--listen-address", "127.0.0.1", "--listen-port", "0"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(process, socket, folder / "log")
            yield Pool(socket)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, (folder / "log").read_text()


def _wait(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with OperatorClient(str(socket)) as client:
                client.status()
                return
        except OperatorFailed:
            time.sleep(0.1)
    pytest.fail(f"the controller does not answer: {log.read_text()}")


@pytest.fixture
def shop(empty: Pool) -> Pool:
    told = empty("apply", "-f", str(SHOP))
    assert told.code == 0, told
    return empty


def test_applying_twice_is_applying_once(shop: Pool) -> None:
    told = shop("apply", "-f", str(SHOP))
    assert told.code == 0
    assert "created" not in told.out
    assert "vm/web1 (tenant shop) unchanged" in told.out


def test_a_file_without_a_document_is_no_success(shop: Pool) -> None:
    for text in ("", "# only a remark\n"):
        told = shop("apply", "-f", "-", stdin=text)
        assert (told.code, told.err) == (1, "error: nothing was applied: what -f names holds no document\n")
        assert shop("diff", "-f", "-", stdin=text).code == 2


def test_a_change_speaks_of_its_own_documents_and_of_what_it_brings_about(shop: Pool) -> None:
    assert "overlaps" in shop("apply", "-f", str(SHOP), "--dry-run").err
    assert shop("label", "vm", "web1", "floor=2", *TENANT, "--dry-run").err == ""
    network = "{apiVersion: buckler.io/v1, kind: Network, metadata: {name: n2, tenant: shop}, spec: {bridge: br7, cidrs: [10.50.0.0/16]}}"
    told = shop("apply", "-f", "-", "--dry-run", stdin=network)
    assert "10.50.0.100/32 overlaps 10.50.0.0/16 of network n2" in told.err
    assert "of network shop" not in told.err


def test_a_clash_is_told_of_the_newcomer(shop: Pool) -> None:
    text = shop("get", "vm", "web1", *TENANT, "-o", "yaml").out.replace("name: web1", "name: another")
    told = shop("apply", "-f", "-", stdin=text)
    assert told.code == 1
    assert "10.50.0.11 is VM web1's" in told.err
    assert "is VM another's" not in told.err


def test_what_get_writes_can_be_applied_and_deleted_again(shop: Pool) -> None:
    for form in ("json", "yaml"):
        written = shop("get", "all", "-o", form).out
        assert shop("diff", "-f", "-", stdin=written).code == 0
        told = shop("apply", "-f", "-", stdin=written)
        assert (told.code, "unchanged" in told.out, "configured" in told.out) == (0, True, False), told
        deleted = shop("delete", "--dry-run", "-f", "-", stdin=written)
        assert (deleted.code, deleted.out.count("deleted (dry run)")) == (0, told.out.count("unchanged")), deleted


def test_diff_tells_nothing_something_and_bad_apart(shop: Pool, tmp_path: Path) -> None:
    assert shop("diff", "-f", str(SHOP))[:2] == (0, "")
    changed = tmp_path / "changed.yaml"
    changed.write_text((SHOP / "policies.yaml").read_text().replace("port: 8080", "port: 8081"))
    told = shop("diff", "-f", str(changed))
    assert told.code == 1
    assert "-    port: 8080" in told.out or "-  - port: 8080" in told.out or "8080" in told.out
    assert "web1 → app" in told.out
    assert shop("diff", "-f", str(SHOP)).code == 0, "a diff changes nothing"
    bad = shop("diff", "-f", "-", stdin=BAD)
    assert bad.code == 2


def test_a_bad_document_is_told_with_every_problem_and_changes_nothing(shop: Pool) -> None:
    before = shop("get", "all", "-o", "json").out
    good = (SHOP / "network.yaml").read_text().replace("name: shop\n", "name: other\n")
    told = shop("apply", "-f", "-", stdin=f"{BAD}---\n{good}")
    assert told.code == 1
    assert "<stdin>:11: spec.ingress[0].action" in told.err
    assert "<stdin>:12: spec.ingress[1].ports[0].port" in told.err
    assert "hint:" in told.err
    assert shop("get", "all", "-o", "json").out == before


def test_a_dry_run_changes_nothing(shop: Pool) -> None:
    before = shop("get", "all", "-o", "json").out
    text = (SHOP / "network.yaml").read_text().replace("name: shop\n", "name: other\n").replace("br0", "br9")
    text = text.replace("10.50", "10.51").replace("fd50", "fd51")
    for told in (
        shop("apply", "-f", "-", "--dry-run", stdin=text),
        shop("delete", "flow", "web-to-app", *TENANT, "--dry-run"),
        shop("label", "vm", "app", "tier-", *TENANT, "--dry-run"),
        shop("vm", "quarantine", "app", "--reason", "test", *TENANT, "--dry-run"),
        shop("host", "join-token", "h1", "--dry-run"),
    ):
        assert told.code == 0, told
        assert "dry run" in told.out
    assert shop("get", "all", "-o", "json").out == before
    assert json.loads(shop("vm", "show", "app", *TENANT, "-o", "json").out)["quarantined"] is False


def test_what_get_writes_can_be_applied_again(shop: Pool, tmp_path: Path) -> None:
    assert shop("get", "vm", "-o", "name").out.split() == ["vm/app", "vm/attacker", "vm/db", "vm/web1", "vm/web2"]
    text = shop("get", "all", "-o", "yaml").out
    assert len(list(yaml.safe_load_all(text))) == 12
    (tmp_path / "pool.yaml").write_text(text)
    assert shop("diff", "-f", str(tmp_path / "pool.yaml")).code == 0
    assert "tier=web" in shop("get", "vm", "-l", "tier=web", "-o", "wide").out
    assert "attacker" not in shop("get", "vm", "-l", "app=shop").out
    missing = shop("get", "vm", "nobody")
    assert missing.code == 1
    assert "nobody" in missing.err


def test_a_vm_and_a_policy_are_described_in_words(shop: Pool) -> None:
    text = shop("describe", "vm", "db", *TENANT).out
    for words in (
        "50500000-0000-4000-8000-000000000004",
        "52:54:00:50:00:04",
        "10.50.0.14",
        "protect-databases",
        "no host",
    ):
        assert words in text
    text = shop("describe", "flow", "web-to-app", *TENANT).out
    assert "policies.yaml:" in text
    assert "web1" in text


def test_explain_names_tier_policy_document_and_line(shop: Pool) -> None:
    allowed = shop("explain", "web1", "app", "8080", *TENANT, "--expect", "allow")
    assert allowed.code == 0
    assert "ALLOWED" in allowed.out
    assert "web-to-app" in allowed.out
    denied = shop("explain", "web1", "db", "5432", *TENANT, "-o", "wide")
    assert "DENIED" in denied.out
    assert "protect-databases" in denied.out
    assert "security" in denied.out
    line = 1 + (SHOP / "security.yaml").read_text().splitlines().index("    - name: nobody-else")
    assert f"security.yaml:{line}" in denied.out
    assert shop("explain", "web1", "db", "5432", *TENANT, "--expect", "allow").code == 1
    assert shop("explain", "web1", "nobody", "1", *TENANT).code == 1


def end_of(end: object) -> object:
    """Take for the world what no document names: the widest of its parts."""
    if not isinstance(end, dict):
        return end
    return "world" if "0.0.0.0/0" in end["blocks"] else ",".join(end["blocks"])


def test_reach_is_the_matrix_that_explain_tells(shop: Pool) -> None:
    answer = shop.json("reach", *TENANT)
    assert isinstance(answer, dict)
    allowed = {(end_of(pair["from"]), end_of(pair["to"])): pair["allowed"] for pair in answer["pairs"]}
    for sender in answer["vms"]:
        for receiver in answer["vms"]:
            if sender != receiver:
                told = shop.json("explain", sender, receiver, "5432", *TENANT)
                assert isinstance(told, dict)
                spans = allowed[sender, receiver]
                covers = any(
                    span["protocol"] == "TCP" and span.get("port", 0) <= 5432 <= span.get("endPort", 65535)
                    for span in spans
                )
                assert covers == (told["verdict"] == "allow"), (sender, receiver)
    unknown = shop("reach", "--from", "wbe1", *TENANT)
    assert unknown.code == 1
    assert "no such end: 'wbe1'" in unknown.err
    text = shop("reach", *TENANT).out
    assert "TCP 8080" in text
    assert "attacker" in text


def test_a_label_decides_at_once(shop: Pool) -> None:
    refused = shop("label", "vm", "app", "tier=web", *TENANT)
    assert refused.code == 1
    assert "tier=app: say --overwrite" in refused.err
    assert shop("label", "vm", "app", "tier-", *TENANT).code == 0
    assert shop("explain", "web1", "app", "8080", *TENANT, "--expect", "deny").code == 0
    assert shop("label", "vm", "app", "tier=app", *TENANT).code == 0
    assert shop("explain", "web1", "app", "8080", *TENANT, "--expect", "allow").code == 0
    assert shop("label", "vm", "app", "buckler.io/tenant=other", *TENANT).code == 1


def test_quarantine_denies_everything_and_is_told(shop: Pool) -> None:
    assert shop("vm", "quarantine", "app", "--reason", "odd", *TENANT).code == 0
    assert "quarantined" in shop("vm", "list").out
    for ends in (("web1", "app", "8080"), ("app", "db", "5432")):
        told = shop("explain", *ends, *TENANT, "--expect", "deny")
        assert told.code == 0
        assert "in the quarantine tier (built in) decides" in told.out
    assert shop("vm", "release", "app", "--reason", "checked", *TENANT).code == 0
    assert shop("explain", "web1", "app", "8080", *TENANT, "--expect", "allow").code == 0
    history = shop("vm", "history", "app", *TENANT, "-o", "wide").out
    assert "quarantine" in history
    assert "odd" in history
    assert "root" in history


def test_deleting_needs_the_right_etag_when_one_is_given(shop: Pool) -> None:
    refused = shop("delete", "flow", "web-to-app", *TENANT, "--if-match", '"wrong"')
    assert refused.code == 1
    assert shop("delete", "flow", "web-to-app", *TENANT).code == 0
    assert shop("explain", "web1", "app", "8080", *TENANT, "--expect", "deny").code == 0
    assert shop("delete", "flow", "web-to-app", *TENANT).code == 1


def test_a_network_in_use_is_not_deleted(shop: Pool) -> None:
    told = shop("delete", "network", "shop", *TENANT)
    assert told.code == 1
    assert shop("get", "network", "shop", *TENANT).code == 0


def test_the_ledger_verifies_online_and_exported_with_the_key(shop: Pool, tmp_path: Path) -> None:
    told = shop("ledger", "verify")
    assert told.code == 0, told
    assert "intact" in told.out
    file = tmp_path / "pool.ledger"
    assert shop("ledger", "export", str(file)).code == 0
    key = json.loads(file.read_text().splitlines()[0])["rootKey"]
    assert shop("ledger", "verify", "--file", str(file), "--root-key", key).code == 0
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], *lines[3:]]) + "\n")
    assert shop("ledger", "verify", "--file", str(file), "--root-key", key).code == 5


def test_a_pool_without_hosts_says_so(shop: Pool) -> None:
    told = shop("status")
    assert told.code == 0
    assert "5 registered" in told.out
    assert "no host has joined yet" in told.out
    assert shop("host", "list", "-o", "json").out.strip() == "[]"
    assert "bjt1." in shop("host", "join-token", "h1").out
    assert shop("rogues").code == 0
    assert shop("flows").code == 0
    assert shop("migrate", "app", "h2", *TENANT).code == 1
    assert shop("vm", "adopt", "stranger").code == 1
    assert shop("vm", "show", "nobody").code == 1


def test_following_ends_quietly_when_interrupted(shop: Pool) -> None:
    command = [sys.executable, "-m", "buckler", "--socket", str(shop.socket), "flows", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not _has_socket(process.pid):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, ""), out


def _has_socket(pid: int) -> bool:
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed while we look
            if str(each.readlink()).startswith("socket:"):
                return True
    return False


def test_the_passport_is_shown_signed_and_in_clear(shop: Pool) -> None:
    answer = shop.json("vm", "passport", "app", *TENANT)
    assert isinstance(answer, dict)
    assert answer["statement"].count(".") == 2
    assert answer["claims"]["uuid"] == "50500000-0000-4000-8000-000000000003"


def test_names_are_completed_from_the_pool(shop: Pool) -> None:
    environment = {"_BUCKLER_COMPLETE": "bash_complete", "COMP_WORDS": "buckler vm show a", "COMP_CWORD": "3"}
    command = [sys.executable, "-c", "from buckler.__main__ import main; main(prog_name='buckler')"]
    done = subprocess.run(
        command, env={**environment, "BUCKLER_SOCKET": str(shop.socket)}, capture_output=True, text=True, check=False
    )
    assert {"plain,app", "plain,attacker"} <= set(done.stdout.split()), done.stderr


def test_a_name_in_another_tenant_is_hinted_at_and_never_guessed(shop: Pool) -> None:
    for arguments in (
        ("vm", "show", "app"),
        ("vm", "quarantine", "app", "--reason", "x"),
        ("label", "vm", "app", "a=b"),
    ):
        told = shop(*arguments)
        assert told.code == 1, arguments
        assert "hint: tenant shop has one: -n shop" in told.err


def test_the_api_describes_and_measures_itself(shop: Pool) -> None:
    with OperatorClient(str(shop.socket)) as client:
        assert client.openapi()["openapi"].startswith("3.1")
        assert "buckler" in client.metrics()


def test_deleting_files_takes_everything_away(shop: Pool) -> None:
    assert shop("delete", "-f", str(SHOP)).code == 0
    assert shop("get", "all", "-o", "name").out == ""
    assert shop("ledger", "verify").code == 0
