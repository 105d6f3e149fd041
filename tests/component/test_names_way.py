"""A name's whole way with real parts: guest, resolver, shield, agent, controller, and the guest's connection at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buckler.client.operator import OperatorClient, OperatorFailed
from buckler.lab.channel import Answer, execute, wait_for_guest
from buckler.lab.domain import channel_path, domain_xml
from buckler.lab.guest.image import image
from buckler.lab.plan import GuestPlan
from buckler.model.operatorapi import SOCKET
from buckler.model.operatorapi.documents import ApplyRequest, SourceFile
from buckler.model.operatorapi.hosts import JoinTokenRequest
from tests.privatehost import PrivateHost, private_host, wait_until

BUCKLER = (sys.executable, "-m", "buckler")
PATIENCE = 120.0
GUEST = GuestPlan("web", "h1", "b0c11e00-1111-4111-8111-0000000d0a01", "52:54:00:00:0d:01", "10.50.0.11", "fd50::11")
RESOLVER, STRANGER, GATEWAY = "10.50.0.53", "10.50.0.54", "10.50.0.254"
NAMED, LATER, UNNAMED, OTHERS = "203.0.113.7", "203.0.113.8", "203.0.113.9", "203.0.113.10"
RESOLVER_6, GATEWAY_6, NAMED_6, UNNAMED_6 = "fd50::53", "fd50::254", "2001:db8::7", "2001:db8::9"
RECORDS = (
    f"--host-record=www.example.org,{NAMED},60",
    "--cname=alias.example.org,www.example.org,30",
    f"--host-record=later.example.org,{LATER},60",
    f"--host-record=six.example.org,{NAMED_6},60",
    f"--host-record=www.example.com,{OTHERS},60",
)
WORLD = f"""
set -e
ip netns add world
ip link add br0 type bridge && ip link set br0 addrgenmode none up
ip link add out0 type veth peer name w0 netns world
ip link set out0 addrgenmode none master br0 up
ip -n world link set lo up
ip -n world link set w0 up
for address in {RESOLVER} {STRANGER} {GATEWAY}; do ip -n world addr add $address/24 dev w0; done
for address in {NAMED} {LATER} {UNNAMED} {OTHERS}; do ip -n world addr add $address/32 dev lo; done
for address in {RESOLVER_6} {GATEWAY_6}; do ip -n world addr add $address/64 dev w0 nodad; done
for address in {NAMED_6} {UNNAMED_6}; do ip -n world addr add $address/128 dev lo nodad; done
"""
AGENT = {
    "name": "h1",
    "fabric-address": "127.0.0.1",
    "addresses": ["127.0.0.1"],
    "outside": ["out0"],
    "bridges": ["br0"],
}
CONTROLLER = {"pool": "shop", "names": ["127.0.0.1"], "listen-address": "127.0.0.1"}
HEAD = "apiVersion: buckler.io/v1\n"
DOCUMENTS = f"""\
{HEAD}kind: Network
metadata: {{name: front}}
spec: {{bridge: br0, cidrs: [10.50.0.0/24, "fd50::/64"], gateway: [{GATEWAY}, "{GATEWAY_6}"], resolvers: [{RESOLVER}, "{RESOLVER_6}"]}}
---
{HEAD}kind: VM
metadata: {{name: {GUEST.name}, labels: {{role: app}}}}
spec: {{uuid: {GUEST.uuid}, interfaces: [{{mac: "{GUEST.mac}", network: front, addresses: [{GUEST.ipv4}, "{GUEST.ipv6}"]}}]}}
---
{HEAD}kind: Policy
metadata: {{name: updates}}
spec:
  description: what everything may fetch
  owner: platform
  reason: patches
  review: "2030-01-01"
  tier: baseline
  subject: {{matchLabels: {{role: app}}}}
  egress:
  - name: ask
    action: allow
    to: [{{cidr: {RESOLVER}/32}}, {{cidr: {STRANGER}/32}}, {{cidr: "{RESOLVER_6}/128"}}]
    ports: [{{protocol: UDP, port: 53}}]
  - {{name: fetch, action: allow, to: [{{dns: "*.example.org"}}], ports: [{{protocol: TCP, port: 443}}]}}
"""


class Ground:
    """One host with a controller, an agent and a guest, and the world on the other side of its bridge."""

    def __init__(self, host: PrivateHost, folder: Path) -> None:
        self.host = host
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, name: str, *words: str) -> None:
        """Start a program on the host."""
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self.host.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        """SIGKILL it, and not only the nsenter before it."""
        running = self._running.pop(name)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        for pid in (*map(int, children), running.pid):
            os.kill(pid, signal.SIGKILL)
        running.wait(30)

    def end(self) -> None:
        for name in tuple(self._running):
            if self._running[name].poll() is None:
                self.kill(name)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def __call__(self, *words: str) -> str:
        return self.host.run(*BUCKLER, *words)

    def operator(self) -> OperatorClient:
        return OperatorClient(f"{self.host.root}{SOCKET}")

    def start_controller(self) -> None:
        self.begin("controller", *BUCKLER, "controller", "run", "--config", "/etc/buckler/controller.yaml")
        wait_until(self._answers, PATIENCE)

    def start_agent(self) -> None:
        self.begin("agent", *BUCKLER, "agent", "run")

    def _answers(self) -> bool:
        assert self._running["controller"].poll() is None, self.log("controller")
        try:
            with self.operator() as client:
                return client.status() is not None
        except OperatorFailed:
            return False

    def is_enforcing(self) -> bool:
        """Whether the agent says so, by its own socket."""
        status = self.host.run(*BUCKLER, "agent", "status", "-o", "json", is_checked=False)
        try:
            return bool(json.loads(status)["enforced"])
        except ValueError:
            return False

    def is_settled(self) -> bool:
        with self.operator() as client:
            status = client.status()
        return status.rollout is None and [
            each.connected and each.enforced >= each.wanted > 0 for each in status.hosts
        ] == [True]

    def within(self, command: str) -> Answer:
        """Run a command in the guest, over its serial channel."""
        return execute(self.host.root / channel_path(GUEST.name).lstrip("/"), command, 60)

    def ask(self, name: str, of: str = RESOLVER) -> str:
        """The guest's own resolver library's own tool; it asks for IPv4 and IPv6 addresses."""
        return self.within(f"nslookup {name} {of}").output

    def opens(self, address: str, port: int = 443) -> bool:
        """Whether a new connection of the guest's is answered."""
        return f"{address}/{port} open" in self.within(f"probe scan 3000 tcp/{address}/{port}").output

    def hold(self, address: str) -> None:
        """Begin a connection of the guest's that speaks all the time."""
        self.within(f"setsid probe hold /tmp/held 100 tcp/{address}/443 >/dev/null 2>&1 &")
        wait_until(lambda: self.held()[1] > 0, PATIENCE)

    def held(self) -> tuple[int, int]:
        """(messages sent, messages that came back) of it."""
        words = self.within("cat /tmp/held").output.split()
        told = dict(zip(words[::2], words[1::2], strict=False))
        return int(told.get("sent", 0)), int(told.get("received", 0))

    def goes_on(self) -> bool:
        """Whether it is answered: it spoke ten times more, and heard anything of it or nothing."""
        sent, received = self.held()
        wait_until(lambda: self.held()[0] >= sent + 10, PATIENCE)
        return self.held()[1] > received

    def apply(self, text: str) -> None:
        with self.operator() as client:
            client.apply(ApplyRequest(files=(SourceFile("shop.yaml", text),)))
        wait_until(self.is_settled, PATIENCE)

    def said(self, address: str, port: int = 443) -> str:
        return self.host.run(*BUCKLER, "explain", GUEST.name, address, str(port), is_checked=False)

    def learned(self) -> set[tuple[str, str, str, str]]:
        listed = json.loads(self("policy", "names", "-o", "json"))
        return {(each["name"], each["address"], each["vm"], each["resolver"]) for each in listed}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with private_host("dnsway") as host:
        made = Ground(host, tmp_path_factory.mktemp("logs"))
        try:
            _raise_world(made)
            _raise_pool(made)
            _raise_guest(made)
            yield made
        finally:
            made.end()


def _raise_world(ground: Ground) -> None:
    """Behind the bridge's outside port: a declared resolver and one that is not, and servers at all the addresses."""
    ground.host.run("sh", "-c", WORLD)
    world = ("ip", "netns", "exec", "world")
    where = ("--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--bind-interfaces", "--user=root",
             f"--listen-address={RESOLVER},{STRANGER},{RESOLVER_6}", "--pid-file")  # fmt: skip
    ground.begin("resolver", *world, "dnsmasq", *where, *RECORDS)
    ground.begin("servers", *world, str(image(lambda _: None).probe), "serve", "world", "-", "tcp/443", "tcp/80")
    wait_until(lambda: "started" in ground.log("resolver"), PATIENCE)


def _raise_pool(ground: Ground) -> None:
    settings = ground.host.root / "etc/buckler"
    (settings / "controller.yaml").write_text(json.dumps(CONTROLLER))
    (settings / "agent.yaml").write_text(json.dumps(AGENT))
    ground.start_controller()
    with ground.operator() as client:
        token = client.create_join_token(JoinTokenRequest(host="h1"))
    ground("agent", "join", "--controller", token.url, token.token)
    ground.host.restart_libvirtd()  # it looks for hooks only when it starts
    ground.start_agent()
    ground.apply(DOCUMENTS)


def _raise_guest(ground: Ground) -> None:
    root, built = ground.host.root, image(lambda _: None)
    for folder in ("boot", "channel", "console"):
        (root / "run/lab" / folder).mkdir(parents=True)
    shutil.copyfile(built.kernel, root / "run/lab/boot/vmlinuz")
    shutil.copyfile(built.initramfs, root / "run/lab/boot/initramfs")
    with ground.operator() as client:
        passport = client.passport(GUEST.name, "default").statement
    (root / "run/web.xml").write_text(domain_xml(GUEST, passport))
    ground.host.virsh("define", "/run/web.xml")
    ground.host.virsh("start", GUEST.name)
    wait_for_guest(root / channel_path(GUEST.name).lstrip("/"), 240)
    routes = f"ip route add default via {GATEWAY} && ip -6 route add default via {GATEWAY_6}"
    assert ground.within(routes).code == 0


@pytest.mark.timeout(600)
def test_what_a_guest_was_answered_opens_and_nothing_else(ground: Ground) -> None:
    assert not ground.opens(NAMED), "nobody asked yet"
    assert "deny" in ground.said(NAMED)
    assert NAMED in ground.ask("alias.example.org", STRANGER)
    assert OTHERS in ground.ask("www.example.com")
    assert ground.learned() == set()

    assert NAMED in ground.ask("alias.example.org")
    wait_until(lambda: ground.opens(NAMED), PATIENCE)
    assert ground.learned() == {("alias.example.org", NAMED, "web", RESOLVER)}
    told = ground.said(NAMED)
    assert f"{NAMED} was the answer for alias.example.org (meant by *.example.org) that VM web got" in told
    assert not ground.opens(NAMED, 80), "the policy names a port"
    for address in (UNNAMED, OTHERS, LATER):
        assert not ground.opens(address), address
        assert "deny" in ground.said(address)


@pytest.mark.timeout(600)
def test_a_name_opens_an_ipv6_address_by_a_resolver_that_is_asked_over_ipv6(ground: Ground) -> None:
    assert not ground.opens(NAMED_6)
    assert NAMED_6 in ground.ask("six.example.org", RESOLVER_6)
    wait_until(lambda: ground.opens(NAMED_6), PATIENCE)
    assert ("six.example.org", NAMED_6, "web", RESOLVER_6) in ground.learned()
    assert not ground.opens(UNNAMED_6)


@pytest.mark.timeout(600)
def test_with_the_controller_dead_what_stands_stays_and_nothing_new_opens(ground: Ground) -> None:
    """The answer that came meanwhile waits on the host: it opens when the controller is back, and nobody asks again."""
    wait_until(lambda: NAMED in ground.ask("alias.example.org") and ground.opens(NAMED), PATIENCE)
    ground.hold(NAMED)
    ground.kill("controller")
    assert LATER in ground.ask("later.example.org")
    for _ in range(3):
        assert ground.opens(NAMED), "a new connection to what was answered before"
        assert not ground.opens(LATER)
    assert ground.goes_on(), "the connection from before"
    ground.start_controller()
    wait_until(lambda: ground.opens(LATER), PATIENCE)
    assert ("later.example.org", LATER, "web", RESOLVER) in ground.learned()
    assert not ground.opens(UNNAMED)


@pytest.mark.timeout(600)
def test_with_the_agent_dead_as_well_it_stays_and_a_new_agent_keeps_it(ground: Ground) -> None:
    wait_until(lambda: NAMED in ground.ask("alias.example.org") and ground.opens(NAMED), PATIENCE)
    ground.hold(NAMED)
    ground.kill("controller")
    ground.kill("agent")
    assert ground.opens(NAMED)
    assert not ground.opens(UNNAMED)
    ground.start_agent()
    wait_until(ground.is_enforcing, PATIENCE)
    assert ground.opens(NAMED)
    assert not ground.opens(UNNAMED)
    assert ground.goes_on()
    ground.start_controller()
    wait_until(ground.is_settled, PATIENCE)


@pytest.mark.timeout(600)
def test_what_no_policy_means_any_more_is_cut_and_the_name_meant_again_opens_at_the_next_answer(
    ground: Ground,
) -> None:
    wait_until(lambda: NAMED in ground.ask("alias.example.org") and ground.opens(NAMED), PATIENCE)
    ground.hold(NAMED)
    ground.apply(DOCUMENTS.replace("*.example.org", "*.example.net"))
    wait_until(lambda: not ground.learned(), PATIENCE)
    wait_until(lambda: not ground.opens(NAMED), PATIENCE)
    wait_until(lambda: not ground.goes_on(), PATIENCE)
    assert NAMED in ground.ask("alias.example.org")
    assert not ground.opens(NAMED)
    ground.apply(DOCUMENTS)
    assert not ground.opens(NAMED), "what was answered while nobody meant it"
    assert NAMED in ground.ask("alias.example.org")
    wait_until(lambda: ground.opens(NAMED), PATIENCE)
