"""The same pool in OVN's northd: how long until its southbound database holds one change. Measures nothing of ours.

Debian's packages are unpacked into a temporary folder, never installed; databases and sockets are private, and there is no chassis.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from policypool import Made

from buckler.model.canonical import canonical_bytes, digest_of
from buckler.model.label import LABEL_TENANT, Selector
from buckler.model.pool import Vm
from buckler.policy.language import Action, Document, FlowSpec, Peer, PolicySpec, Port, RuleSpec

PACKAGES = (
    "ovn-central",
    "ovn-common",
    "openvswitch-common",
    "libunbound8",
    "libxdp1",
    "libbpf1",
    "libnuma1",
    "libcap-ng0",
)
PATIENCE = 120.0
"""Seconds for one step."""
LIMIT = 240.0
"""Seconds for all changes together."""
MEMORY = 4 << 30
ROUNDS = 7
_ACTIONS = {Action.ALLOW: "allow-related", Action.DENY: "drop"}


def measure_northd(made: Made) -> dict[str, float]:
    """Give medians in milliseconds of one address changed and one rule changed, and the time of the first full pass."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="buckler-northd-")))
        root = _unpack(folder)
        database = stack.enter_context(_servers(root, folder))
        return _measure(made, database)


def _measure(made: Made, database: _Database) -> dict[str, float]:
    began = time.perf_counter()
    database.change(_pool(made))
    found = {"northd_full_10k_s": time.perf_counter() - began}
    sets = _sets(made)
    ports = database.select("ACL", ["direction", "==", "to-lport"], "_uuid", "match")
    addresses, rules = [], []
    for number in range(ROUNDS):
        place = number * 211 % len(made.pool.vms)
        vm = made.pool.vms[place]
        fresh = f"10.{place % len(made.pool.networks)}.253.{number + 1}"
        began = time.perf_counter()
        database.change(_moved(vm, fresh, sets))
        addresses.append((time.perf_counter() - began) * 1000)
        rule = ports[number * 37 % len(ports)]
        match = f"{rule['match']} && tcp.dst != {20000 + number}"
        began = time.perf_counter()
        database.change([_update("ACL", ["_uuid", "==", rule["_uuid"]], {"match": match})])
        rules.append((time.perf_counter() - began) * 1000)
    found["northd_address_10k_ms"] = sorted(addresses)[ROUNDS // 2]
    found["northd_rule_10k_ms"] = sorted(rules)[ROUNDS // 2]
    return found


def _unpack(folder: Path) -> Path:
    (folder / "debs").mkdir()
    subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3", "download", *PACKAGES],
        cwd=folder / "debs",
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    for each in (folder / "debs").glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(each), str(folder / "root")], check=True, timeout=PATIENCE)
    return folder / "root"


@contextmanager
def _servers(root: Path, folder: Path) -> Iterator[_Database]:
    """One database server with both databases, and one northd; both end with the block."""
    libraries = ":".join(str(each) for each in (root / "usr/lib").glob("*-linux-gnu"))
    words = {
        "LD_LIBRARY_PATH": libraries,
        "OVN_RUNDIR": str(folder),
        "OVS_RUNDIR": str(folder),
        "OVS_LOGDIR": str(folder),
    }
    environment, remote = os.environ | words, f"unix:{folder}/db.sock"
    files = []
    for name in ("nb", "sb"):
        files.append(str(folder / f"{name}.db"))
        schema = root / f"usr/share/ovn/ovn-{name}.ovsschema"
        command = [str(root / "usr/bin/ovsdb-tool"), "create", files[-1], str(schema)]
        subprocess.run(command, env=environment, check=True, timeout=PATIENCE)
    serve = [str(root / "usr/sbin/ovsdb-server"), f"--remote=p{remote}", f"--unixctl={folder}/db.ctl", "-vconsole:off"]
    north = [str(root / "usr/bin/ovn-northd"), f"--ovnnb-db={remote}", f"--ovnsb-db={remote}", "-vconsole:off"]
    with _running([*serve, *files], environment):
        database = _Database(folder / "db.sock")
        database.transact([{"op": "insert", "table": "NB_Global", "row": {"name": "bench"}}])
        with _running([*north, f"--unixctl={folder}/northd.ctl"], environment):
            yield database


@contextmanager
def _running(command: Sequence[str], environment: dict[str, str]) -> Iterator[None]:
    child = subprocess.Popen(["prlimit", f"--as={MEMORY}", *command], env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class _Database:
    """A client of the northbound database (RFC 7047)."""

    def __init__(self, path: Path) -> None:
        until = time.monotonic() + PATIENCE
        self._until = time.monotonic() + LIMIT
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(PATIENCE)
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self._text, self._decoder = "", json.JSONDecoder()
        self._asked = self._config = 0

    def transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run one transaction; durable when this returns. Raises RuntimeError when it is refused."""
        if any(each["op"] != "select" for each in operations):
            operations = [*operations, {"op": "commit", "durable": True}]
        self._asked += 1
        asked = {"method": "transact", "params": ["OVN_Northbound", *operations], "id": self._asked}
        self._socket.sendall(json.dumps(asked).encode())
        told = self._receive()
        if told["error"] or any(each and "error" in each for each in told["result"]):
            raise RuntimeError(f"the database refused: {str(told)[:500]}")
        found: list[dict[str, Any]] = told["result"]
        return found

    def select(self, table: str, where: list[Any], *columns: str) -> list[dict[str, Any]]:
        """Read rows."""
        asked = {"op": "select", "table": table, "where": [where], "columns": list(columns)}
        rows: list[dict[str, Any]] = self.transact([asked])[0]["rows"]
        return rows

    def change(self, operations: list[dict[str, Any]]) -> None:
        """Do what `ovn-nbctl --wait=sb` does, without its start: change, and wait until northd wrote the southbound database."""
        self._config += 1
        self.transact(
            [*operations, {"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": self._config}}]
        )
        while time.monotonic() < self._until:
            if self.select("NB_Global", ["name", "==", "bench"], "sb_cfg")[0]["sb_cfg"] == self._config:
                return
            time.sleep(0.001)
        raise TimeoutError("northd did not finish")

    def _receive(self) -> dict[str, Any]:
        while True:
            try:
                told, end = self._decoder.raw_decode(self._text)
            except ValueError:
                more = self._socket.recv(1 << 20)
                if not more:
                    raise ConnectionError("the database server went away") from None
                self._text += more.decode()
                continue
            self._text = self._text[end:]
            if told.get("method") == "echo":
                answer = {"result": told["params"], "error": None, "id": told["id"]}
                self._socket.sendall(json.dumps(answer).encode())
            else:
                found: dict[str, Any] = told
                return found


def _update(table: str, where: list[Any], row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": [where], "row": row}


def _moved(vm: Vm, fresh: str, sets: dict[str, tuple[Selector, str, list[Vm]]]) -> list[dict[str, Any]]:
    """A port's new address, in every address set that holds it, too."""
    card = vm.interfaces[0]
    words = f"{card.mac} {fresh}"
    found = [_update("Logical_Switch_Port", ["name", "==", vm.name], {"addresses": words, "port_security": words})]
    for name, (_selector, _tenant, members) in sets.items():
        if vm in members:
            change = [["addresses", "delete", card.addresses[0]], ["addresses", "insert", fresh]]
            found.append({"op": "mutate", "table": "Address_Set", "where": [["name", "==", name]], "mutations": change})
    return found


def _name(selector: Selector, tenant: str) -> str:
    return f"s{digest_of(canonical_bytes(selector) + tenant.encode()).split(':')[-1][:20]}"


def _sets(made: Made) -> dict[str, tuple[Selector, str, list[Vm]]]:
    """Name every selector's VMs: a port group where rules stand at it, an address set where they name it."""
    by_tenant: dict[str, list[Vm]] = {}
    for vm in made.pool.vms:
        by_tenant.setdefault(vm.tenant, []).append(vm)
    found: dict[str, tuple[Selector, str, list[Vm]]] = {}
    for subject, tenant, _side, rule in _rules(made.documents):
        for selector in (subject, *(each.vm for each in rule.peers if each.vm is not None)):
            name = _name(selector, tenant)
            if name not in found:
                pool = by_tenant.get(tenant, list(made.pool.vms))
                chosen = [vm for vm in pool if selector.matches({**vm.labels, LABEL_TENANT: vm.tenant})]
                found[name] = (selector, tenant, chosen)
    return found


def _rules(documents: Sequence[Document]) -> Iterator[tuple[Selector, str, str, RuleSpec]]:
    for document in documents:
        spec, tenant = document.spec, document.tenant
        if isinstance(spec, PolicySpec):
            yield from ((spec.subject, tenant, "to-lport", each) for each in spec.ingress)
            yield from ((spec.subject, tenant, "from-lport", each) for each in spec.egress)
        elif isinstance(spec, FlowSpec):
            ends = (("from-lport", spec.sources, spec.destinations), ("to-lport", spec.destinations, spec.sources))
            for side, near, far in ends:
                for one in near:
                    if one.vm is not None:
                        yield one.vm, tenant, side, RuleSpec("flow", spec.action, ports=spec.ports, peers=far)


def _pool(made: Made) -> list[dict[str, Any]]:
    """The whole pool as one transaction: a switch for each network, a port for each VM, default deny, one ACL for each rule."""
    found: list[dict[str, Any]] = []
    named: dict[str, list[str]] = {}
    for number, vm in enumerate(made.pool.vms):
        card = vm.interfaces[0]
        words = f"{card.mac} {card.addresses[0]}"
        row = {"name": vm.name, "addresses": words, "port_security": words}
        found.append({"op": "insert", "table": "Logical_Switch_Port", "uuid-name": f"p{number}", "row": row})
        named.setdefault(card.network, []).append(f"p{number}")
    for network, ports in named.items():
        found.append({"op": "insert", "table": "Logical_Switch", "row": {"name": network, "ports": _refer(ports)}})
    acls: dict[str, list[str]] = {}
    for number, (subject, tenant, side, rule) in enumerate(_rules(made.documents)):
        group = _name(subject, tenant)
        row = {
            "direction": side,
            "priority": 1000,
            "action": _ACTIONS[rule.action],
            "match": _match(group, tenant, side, rule),
        }
        found.append({"op": "insert", "table": "ACL", "uuid-name": f"a{number}", "row": row})
        acls.setdefault(group, []).append(f"a{number}")
    place = {vm.id: f"p{number}" for number, vm in enumerate(made.pool.vms)}
    for name, (_selector, _tenant, members) in _sets(made).items():
        addresses = ["set", [vm.interfaces[0].addresses[0] for vm in members]]
        found.append({"op": "insert", "table": "Address_Set", "row": {"name": name, "addresses": addresses}})
        if name in acls:
            ports = [place[vm.id] for vm in members]
            row = {"name": f"pg_{name}", "ports": _refer(ports), "acls": _refer(acls[name])}
            found.append({"op": "insert", "table": "Port_Group", "row": row})
    for side, word in (("to-lport", "outport"), ("from-lport", "inport")):
        row = {"direction": side, "priority": 1, "action": "drop", "match": f"{word} == @pg_everyone && ip"}
        found.append({"op": "insert", "table": "ACL", "uuid-name": f"last_{word}", "row": row})
    row = {
        "name": "pg_everyone",
        "ports": _refer(list(place.values())),
        "acls": _refer(["last_outport", "last_inport"]),
    }
    found.append({"op": "insert", "table": "Port_Group", "row": row})
    return found


def _refer(names: Sequence[str]) -> list[Any]:
    return ["set", [["named-uuid", each] for each in names]]


def _match(group: str, tenant: str, side: str, rule: RuleSpec) -> str:
    near, far = ("outport", "ip4.src") if side == "to-lport" else ("inport", "ip4.dst")
    words = [f"{near} == @pg_{group}", "ip4"]
    peers = [word for peer in rule.peers if (word := _peer(peer, tenant, far))]
    ports = [_port(each) for each in rule.ports]
    return " && ".join([*words, *(f"({' || '.join(each)})" for each in (peers, ports) if each)])


def _peer(peer: Peer, tenant: str, far: str) -> str:
    if peer.vm is not None:
        return f"{far} == ${_name(peer.vm, tenant)}"
    return f"{far} == {peer.cidr}" if peer.cidr else f"{far} == 0.0.0.0/0" if peer.world else ""


def _port(port: Port) -> str:
    low, high = port.span()
    if port.protocol == "ICMP":
        return f"icmp4.type == {port.type}"
    word = f"{port.protocol.lower()}.dst"
    return f"({word} >= {low} && {word} <= {high})" if low != high else f"{word} == {low}"
