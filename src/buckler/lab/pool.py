"""Buckler in the lab: controller, agents and hook as on real machines, joined with real tokens, and the shop's documents."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from buckler.client.operator import OperatorClient, OperatorFailed
from buckler.lab.datacentre import DataCentre, Progress, start_guests
from buckler.lab.host import restart_libvirtd, start_service
from buckler.lab.machine import LabFailed, processes_of
from buckler.lab.plan import CONTROLLER, CONTROLLER_ADDRESS, OUTSIDE_PORT, UPLINK, HostPlan
from buckler.lab.shop import FOLDER
from buckler.model.operatorapi import SOCKET
from buckler.model.operatorapi.documents import ApplyRequest, ApplyResult, SourceFile
from buckler.model.operatorapi.hosts import JoinTokenRequest
from buckler.model.prepared import prepare_structs

BUCKLER = (sys.executable, "-m", "buckler")
PATIENCE = 40.0
CONTROLLER_YAML = f"""\
pool: lab
names: ["{CONTROLLER_ADDRESS}"]
"""


class Pool:
    """The Buckler of one running lab."""

    def __init__(self, centre: DataCentre) -> None:
        self.centre = centre

    @property
    def socket(self) -> str:
        """Where the operator API is, as this machine's commands reach it."""
        return str(self.centre.root(CONTROLLER)) + SOCKET

    def operator(self) -> OperatorClient:
        """Return a client; close it after use."""
        return OperatorClient(self.socket)

    def start_controller(self) -> None:
        """Start the controller and wait until it answers."""
        root = self.centre.root(CONTROLLER)
        (root / "etc/buckler/controller.yaml").write_text(CONTROLLER_YAML)
        command = (*BUCKLER, "controller", "run", "--config", "/etc/buckler/controller.yaml")
        start_service(self.centre.pid(CONTROLLER), "controller", *command)
        self.wait_until("the controller answers", lambda client: client.status() is not None)

    def stop_controller(self) -> None:
        """Kill the controller: nothing in the pool may depend on it being asked first."""
        self.kill(CONTROLLER, "buckler controller")

    def join(self, host: HostPlan) -> None:
        """Make a host a member with a token of its own, install the hook and start the agent."""
        with self.operator() as client:
            token = client.create_join_token(JoinTokenRequest(host=host.name))
        self._configure_agent(host)
        join = ("agent", "join", "--controller", token.url, token.token)
        self.centre.run_on(host.name, *BUCKLER, *join)
        restart_libvirtd(self.centre.pid(host.name))  # it looks for hooks only when it starts
        self.start_agent(host.name)

    def _configure_agent(self, host: HostPlan) -> None:
        outside = [OUTSIDE_PORT] if host == self.centre.plan.hosts[0] else []
        settings = {
            "name": host.name,
            "tunnel": list(self.centre.plan.tunnels.values()),
            "outside": outside,
            "fabric": UPLINK,
            "fabric-address": host.address,
            "addresses": [host.address],
            "migrate-uri": f"qemu+tcp://{host.address}/system",
            "bridges": list(self.centre.plan.bridges),
        }
        (self.centre.root(host.name) / "etc/buckler/agent.yaml").write_text(yaml.safe_dump(settings))

    def start_agent(self, host: str) -> None:
        """Start a host's agent, as its service manager would."""
        start_service(self.centre.pid(host), "agent", *BUCKLER, "agent", "run")

    def kill(self, machine: str, words: str) -> int:
        """Kill -9 the processes of a machine whose command line has ``words``; return how many."""
        plan = self.centre.plan
        namespace = {host.name: host.namespace for host in (*plan.hosts, plan.controller)}[machine]
        found = [pid for pid, line in processes_of([namespace]).items() if f" -m {words} " in line]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)

    def wait_for_hosts(self) -> None:
        """Wait until every host enforces what is wanted."""

        def all_enforce(client: OperatorClient) -> bool:
            status = client.status()
            settled = status.rollout is None and len(status.hosts) == len(self.centre.plan.hosts)
            return settled and all(host.connected and host.enforced >= host.wanted for host in status.hosts)

        self.wait_until("every host enforces the newest revision", all_enforce)

    def apply(self, *files: SourceFile) -> ApplyResult:
        """Apply documents and wait until every host enforces them. Raises LabFailed with every problem."""
        with self.operator() as client:
            try:
                result = client.apply(ApplyRequest(files=files, wait=PATIENCE))
            except OperatorFailed as failed:
                problems = "; ".join(f"{p.file}:{p.line} {p.path} {p.message}" for p in failed.problem.problems)
                raise LabFailed(f"{failed}: {problems}") from failed
        if result.waiting:
            raise LabFailed(f"not enforced after {PATIENCE:g} s: {result.waiting}")
        return result

    def passports(self) -> dict[str, str]:
        """Return the signed passport of each registered VM, by name."""
        with self.operator() as client:
            return {vm.name: client.passport(vm.name, vm.tenant).statement for vm in client.vms()}

    def wait_until(self, what: str, is_done: Callable[[OperatorClient], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        last = ""
        while time.monotonic() < deadline:
            try:
                with self.operator() as client:
                    if is_done(client):
                        return
            except OperatorFailed as failed:
                last = str(failed)
            time.sleep(0.1)
        raise LabFailed(f"not within {PATIENCE:g} s: {what}. {last}\n{self._logs()}")

    def _logs(self) -> str:
        """Return the last words of every service, for who has to find out why."""
        machines = [self.centre.plan.controller, *self.centre.plan.hosts]
        logs = {
            f"{machine.name}: {log.name}": log.read_text(errors="replace").splitlines()[-8:]
            for machine in machines
            for log in (self.centre.root(machine.name) / "var/log" / name for name in ("controller.log", "agent.log"))
            if log.exists()
        }
        return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in logs.items())


def shop_files(folder: Path = FOLDER) -> tuple[SourceFile, ...]:
    """Read the shop's documents."""
    return tuple(
        SourceFile(str(path.relative_to(folder.parents[1])), path.read_text()) for path in sorted(folder.glob("*.yaml"))
    )


def raise_pool(centre: DataCentre, documents: tuple[SourceFile, ...], progress: Progress) -> Pool:
    """Start Buckler in a lab whose hosts are up, register the shop, then start the guests behind their shields."""
    prepare_structs()
    pool = Pool(centre)
    pool.start_controller()
    progress("the controller answers")
    for host in centre.plan.hosts:
        pool.join(host)
    progress(f"{len(centre.plan.hosts)} hosts joined, each with a token of its own")
    pool.apply(*documents)
    pool.wait_for_hosts()
    progress("the shop's networks, VMs and policies are enforced on every host")
    start_guests(centre, centre.plan.guests, pool.passports())
    progress(f"{len(centre.plan.guests)} guests have booted")
    return pool
