"""One host's share of a large pool: from the signed manifest on the stream to the kernel's proven maps. Measures no controller.

`python policyhost.py ENDPOINTS TAPS` in network and mount namespaces of its own (`policy.py` makes them): ENDPOINTS registered VMs in
ONE network, TAPS of them running here. A real controller and a whole real agent, taps, shields, guard and maps; only the domains exist
in memory alone. The other endpoints are what such a host knows of its neighbours: address, MAC, identity.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.component.ground import add_bridge, run  # noqa: E402 - the tests are no package of ours
from tests.system.simulated_host import Simulated, domain  # noqa: E402

from buckler.agent.assemble import Agent  # noqa: E402
from buckler.agent.kernel import real_drivers  # noqa: E402
from buckler.agent.settings import AgentSettings  # noqa: E402
from buckler.client.agentside import ControllerClient  # noqa: E402
from buckler.client.operator import OperatorClient, OperatorFailed  # noqa: E402
from buckler.drivers.ebpf import libbpf  # noqa: E402
from buckler.drivers.ebpf.layout import U32  # noqa: E402
from buckler.drivers.ebpf.table import Table  # noqa: E402
from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor  # noqa: E402
from buckler.drivers.inmemory.performance import InMemoryPerformance  # noqa: E402
from buckler.model.agentapi import Acknowledgement, Observation, StreamMessage  # noqa: E402
from buckler.model.bundle import Passport  # noqa: E402
from buckler.model.canonical import canonical_bytes  # noqa: E402
from buckler.model.domain import PASSPORT_NAMESPACE  # noqa: E402
from buckler.model.ids import VmId  # noqa: E402
from buckler.model.operatorapi.documents import ApplyRequest, LabelRequest, Reference, SourceFile  # noqa: E402
from buckler.model.operatorapi.hosts import JoinTokenRequest  # noqa: E402
from buckler.trust.statement import Kind, sign  # noqa: E402

ROUNDS = 11
PATIENCE = 300.0
APPS, ROLES, ENVIRONMENTS = 50, ("web", "app", "db", "cache", "queue"), ("prod", "test")
FABRIC, ADDRESS = "fabric0", "192.0.2.1"
_NETWORK = """\
apiVersion: buckler.io/v1
kind: Network
metadata: {name: flat, tenant: shop}
spec: {bridge: br0, cidrs: [10.64.0.0/10, "fd64::/64"]}
"""
_HEAD = {"description": "made", "owner": "bench", "reason": "measured", "review": "2036-12-31"}


class Stopwatch:
    """How long each manifest took, from the stream's line to the acknowledgement of its revision."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._take, self._put = agent._downlink._take, agent._outbox.put_state
        self._began = 0.0
        self.taken: list[float] = []
        agent._downlink._take = self.take  # type: ignore[method-assign]
        agent._outbox.put_state = self.put  # type: ignore[method-assign]

    def take(self, client: ControllerClient, message: StreamMessage) -> None:
        if message.manifest:
            self._began = time.perf_counter()
        self._take(client, message)

    def put(self, acknowledgement: Acknowledgement, observation: Observation) -> None:
        self._put(acknowledgement, observation)
        wanted = self._agent._believer.belief.own_revision
        if self._began and wanted and acknowledgement.revision >= wanted:
            self.taken.append(time.perf_counter() - self._began)
            self._began = 0.0


class Bench:
    """A pool of one host in this process's own namespaces."""

    def __init__(self, folder: Path, endpoints: int, taps: int) -> None:
        self.folder, self.endpoints, self.taps = folder, endpoints, taps
        self.socket = str(folder / "operator.sock")
        self.pins = folder / "bpf" / "buckler"
        self.settings = AgentSettings(
            controllers=("https://127.0.0.1:7443",),
            name="hv1",
            fabric=FABRIC,
            fabric_address=ADDRESS,
            addresses=(ADDRESS,),
            bridges=("br0",),
            state=str(folder / "agent"),
            socket=str(folder / "agent.sock"),
            pins=str(self.pins),
        )

    def prepare(self) -> subprocess.Popen[bytes]:
        """Make the host's network and start a controller that knows all endpoints."""
        run("ip link set lo up")
        add_bridge("br0")
        add_bridge(FABRIC)  # stands for the card of the underlay
        run(f"ip addr add {ADDRESS}/24 dev {FABRIC}")
        (self.folder / "bpf").mkdir()
        run(f"mount -t bpf bpf {self.folder / 'bpf'}")
        lines = [f"tuntap add tap{number} mode tap" for number in range(self.taps)]
        lines += [f"link set tap{number} address fe{_mac(number)[2:]} master br0 up" for number in range(self.taps)]
        (self.folder / "taps").write_text("".join(f"{line}\n" for line in lines))
        run(f"ip -b {self.folder / 'taps'}")
        command = [sys.executable, "-m", "buckler", "controller", "run", "--state-dir", str(self.folder / "controller")]
        with (self.folder / "controller.log").open("wb") as log:
            return subprocess.Popen([*command, "--socket", self.socket], stdout=log, stderr=log)

    def fill(self) -> None:
        """Register everything before the host joins: its first manifest holds all of it."""
        with self.operator() as client:
            _wait_until(lambda: _answers(client))
            client.apply(ApplyRequest(files=(SourceFile("network", _NETWORK), SourceFile("rules", _rules()))))
            for first in range(0, self.endpoints, 1000):
                numbers = range(first, min(first + 1000, self.endpoints))
                text = "---\n".join(_vm(number, _address(number)) for number in numbers)
                client.apply(ApplyRequest(files=(SourceFile(f"vms{first}", text),), wait=PATIENCE))
            token = client.create_join_token(JoinTokenRequest(host="hv1"))
            path = self.folder / "agent.yaml"
            path.write_bytes(msgspec.yaml.encode(self.settings))
            join = ("agent", "--settings", str(path), "join", "--controller", "https://127.0.0.1:7443", token.token)
            subprocess.run([sys.executable, "-m", "buckler", *join], check=True, capture_output=True)

    def start_agent(self) -> tuple[Agent, Stopwatch]:
        hypervisor = InMemoryHypervisor()
        for number, passport in self.passports():
            metadata = f"<metadata><b:passport xmlns:b='{PASSPORT_NAMESPACE}'>{passport}</b:passport></metadata>"
            hypervisor.start(domain(Simulated(f"vm{number}", _uuid(number), _mac(number), f"tap{number}", metadata)))
        drivers = msgspec.structs.replace(
            real_drivers(self.settings), hypervisor=hypervisor, performance=InMemoryPerformance(hypervisor)
        )
        agent = Agent(self.settings, drivers)
        return agent, Stopwatch(agent)

    def passports(self) -> Iterator[tuple[int, str]]:
        """Sign them with the controller's key, by its store: to list 10,000 VMs takes it longer than a caller waits."""
        key = serialization.load_pem_private_key((self.folder / "controller/keys/issuing.pem").read_bytes(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("the controller signs with another kind of key")
        with closing(sqlite3.connect(f"file:{self.folder / 'controller/pool.sqlite'}?mode=ro", uri=True)) as store:
            ids = {name: VmId(vm) for name, vm in store.execute("SELECT name, id FROM vms")}
        for number in range(self.taps):
            claims = Passport("pool", ids[f"vm{number}"], "shop", _uuid(number), (_mac(number),))
            yield number, sign(Kind.PASSPORT, canonical_bytes(claims), key)

    def operator(self) -> OperatorClient:
        return OperatorClient(self.socket)


def measure(endpoints: int, taps: int) -> dict[str, float]:
    """Load everything into a kernel that holds nothing yet, then change one thing after the other."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="buckler-host-") as name:
        bench = Bench(Path(name), endpoints, taps)
        controller = bench.prepare()
        try:
            bench.fill()
            return _measured(bench)
        finally:
            controller.terminate()
            controller.wait()
            run(f"umount {bench.folder / 'bpf'}")


def _measured(bench: Bench) -> dict[str, float]:
    agent, watch = bench.start_agent()
    agent.start()
    try:
        _wait_until(lambda: bool(watch.taken) and len(agent.steward.outcome.admitted) == bench.taps)
        found = {"host_endpoints": bench.endpoints, "host_taps": bench.taps, "host_load_s": watch.taken[0]}
        found["host_pass_ms"] = _pass(agent)
        for name, change in _changes(bench).items():
            found |= _timed(name, watch, change)
        kernel, process = sum(_locked(bench.pins)) / 2**20, _resident()
        return found | {
            "host_change_ms": max(found[f"host_{name}_ms"] for name in ("address", "label", "rule")),
            "host_kernel_mib": kernel,
            "host_process_mib": process,
            "host_mib": kernel + process,
            "host_load": os.getloadavg()[0],
        }
    finally:
        agent.stop()


def _pass(agent: Agent) -> float:
    """A look at a kernel that is as it should be: what the agent does unasked, every second or less often."""

    def look() -> float:
        agent.steward.tidy()
        return agent.steward.outcome.seconds

    return sorted(agent._worker.ask(look, PATIENCE) for _ in range(5))[2] * 1000


def _changes(bench: Bench) -> dict[str, Callable[[OperatorClient, int], object]]:
    """A VM that lives elsewhere gets another address or another label, a rule another port."""
    chance = random.Random(7)

    def put(client: OperatorClient, text: str) -> object:
        return client.apply(ApplyRequest(files=(SourceFile("changed", text),), wait=PATIENCE))

    def address(client: OperatorClient, number: int) -> object:
        return put(client, _vm(chance.randrange(bench.taps, bench.endpoints), f"10.120.0.{number + 1}"))

    def label(client: OperatorClient, number: int) -> object:
        reference = Reference(kind="VM", name=f"vm{chance.randrange(bench.taps, bench.endpoints)}", tenant="shop")
        labels = {"app": f"app{(number * 7) % APPS}", "role": "web"}
        return client.label(reference, LabelRequest(set=labels, overwrite=True, wait=PATIENCE))

    def rule(client: OperatorClient, number: int) -> object:
        return put(client, _flow(number % APPS, "web", "app", 9000 + number))

    return {"address": address, "label": label, "rule": rule}


def _timed(name: str, watch: Stopwatch, change: Callable[[OperatorClient, int], object]) -> dict[str, float]:
    """A change comes in up to three manifests (close, flip, open): what all of them took counts."""
    host, whole, count, cpu = [], [], [], []
    with OperatorClient(watch._agent._settings.socket.replace("agent.sock", "operator.sock")) as client:
        for number in range(ROUNDS):
            before, began, used = len(watch.taken), time.perf_counter(), time.process_time()
            change(client, number)
            cpu.append((time.process_time() - used) * 1000)
            whole.append((time.perf_counter() - began) * 1000)
            host.append(sum(watch.taken[before:]) * 1000)
            count.append(len(watch.taken) - before)
    half = ROUNDS // 2
    return {
        f"host_{name}_ms": sorted(host)[half],
        f"host_{name}_worst_ms": max(host),
        f"host_{name}_cpu_ms": sorted(cpu)[half],
        f"host_{name}_manifests": sorted(count)[half],
        f"pool_{name}_ms": sorted(whole)[half],
    }


def _locked(pins: Path) -> Iterator[int]:
    """Bytes that the kernel accounts to each map of this host, the ones that stand in maps among them."""
    seen: set[int] = set()
    for path in (*(pins / "maps").iterdir(), *(pins / "policies").iterdir()):
        table = Table(libbpf.get_pinned(path))
        inner = [U32.unpack(value)[0] for value in table.items().values()] if path.name in _OUTER else []
        for each in (table, *(Table(libbpf.check(libbpf.map_fd_by_id(number), "inner map")) for number in inner)):
            if each.id not in seen:
                seen.add(each.id)
                text = Path(f"/proc/self/fdinfo/{each.fd}").read_text()
                yield int(next(line.split()[1] for line in text.splitlines() if line.startswith("memlock:")))
            each.close()


_OUTER = frozenset({"policies", "established", "waiting", "fragments"})


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def _wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit("the host was not ready in time")
        time.sleep(0.01)


def _answers(client: OperatorClient) -> bool:
    try:
        client.status()
    except OperatorFailed:
        return False
    return True


def _vm(number: int, address: str) -> str:
    """Label sets are skewed: every one stands somewhere, half of the VMs are of a few applications."""
    app = number % APPS if number % 2 else int(random.Random(number).paretovariate(1.1)) % APPS
    labels = {"app": f"app{app}", "role": ROLES[number % 5], "env": ENVIRONMENTS[number % 7 == 0]}
    card = {"mac": _mac(number), "network": "flat", "addresses": [address]}
    spec = {"uuid": _uuid(number), "owner": "bench", "purpose": "measured", "interfaces": [card]}
    return _document("VM", f"vm{number}", spec, labels)


def _rules() -> str:
    pairs = (("web", "app", 8080), ("app", "db", 5432), ("app", "cache", 6379), ("app", "queue", 9092))
    return "---\n".join(_flow(app, *pair) for app in range(APPS) for pair in pairs)


def _flow(app: int, source: str, target: str, port: int) -> str:
    ends = [[{"vm": {"matchLabels": {"app": f"app{app}", "role": role}}}] for role in (source, target)]
    spec = {**_HEAD, "order": 100, "from": ends[0], "to": ends[1], "ports": [{"protocol": "TCP", "port": port}]}
    return _document("Flow", f"app{app}-{source}-{target}", spec, {})


def _document(kind: str, name: str, spec: dict[str, object], labels: dict[str, str]) -> str:
    metadata = {"name": name, "tenant": "shop", "labels": labels}
    content = {"apiVersion": "buckler.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return json.dumps(content) + "\n"


def _address(number: int) -> str:
    return f"10.64.{number // 250}.{number % 250 + 2}"


def _mac(number: int) -> str:
    return f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def _uuid(number: int) -> str:
    return f"52520000-0000-4000-8000-{number:012d}"


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:3]))))
