"""The lab as one thing: brought up, asked, moved about, taken down. Knows how its parts go together, not how they work."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from buckler.lab.channel import Answer, ChannelBroken, execute, new_identity, wait_for_guest
from buckler.lab.domain import channel_path, console_path, disk_path, domain_xml
from buckler.lab.fabric import build_fabric
from buckler.lab.guest.image import GuestImage, image
from buckler.lab.host import running_domains, start_libvirt, start_machine, virsh
from buckler.lab.machine import (
    NAMESPACES,
    GuestCrashed,
    LabFailed,
    attempt,
    inside,
    is_alive,
    is_root,
    root_of,
    run,
    within,
)
from buckler.lab.moving import Move, Way
from buckler.lab.plan import GuestPlan, HostPlan, LabPlan
from buckler.lab.state import LabState, read_state, write_state
from buckler.lab.sweep import namespaces_of, sweep

Progress = Callable[[str], None]


class OutsideJob:
    """A probe that runs beside the guests, and the counts it leaves."""

    def __init__(self, process: subprocess.Popen[bytes], result: Path) -> None:
        self._process, self._result = process, result

    def ask_again(self) -> None:
        """Let idle flows speak once more; forget the longest gap."""
        self._process.send_signal(signal.SIGUSR1)

    def stop(self) -> dict[str, str]:
        """End it and return what it counted, as words in pairs."""
        self._process.terminate()
        self._process.wait(10)
        return self.read()

    def read(self) -> dict[str, str]:
        """Return what it counted so far; at the very beginning that is nothing."""
        words = self._result.read_text().split() if self._result.exists() else []
        return dict(zip(words[::2], words[1::2], strict=True))


PATIENCE = 40.0
PAUSES = (3, 3, 10)
"""Seconds between tries to speak with a guest: twenty emulated machines may leave one of them none for half a minute."""


class DataCentre:
    """A running lab. All methods may raise LabFailed."""

    def __init__(self, state: LabState) -> None:
        self.plan: LabPlan = state.plan
        self.pids = dict(state.pids)

    def pid(self, machine: str) -> int:
        """Return the first process of a host or of the controller's machine."""
        if machine not in self.pids:
            raise LabFailed(f"no machine {machine!r}; there are {', '.join(self.pids)}")
        return self.pids[machine]

    def root(self, machine: str) -> Path:
        """Return a machine's root folder as seen from outside."""
        return root_of(self.pid(machine))

    def run_on(self, machine: str, *command: str, timeout: float = 60) -> str:
        """Run a program on a host."""
        return run(*inside(self.pid(machine), *command), timeout=timeout)

    def attempt_on(self, machine: str, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program on a host whose failure is an answer too."""
        return attempt(*inside(self.pid(machine), *command), timeout=timeout)

    def run_outside(self, *command: str, timeout: float = 60) -> str:
        """Run a program at the station outside the pool."""
        return run(*within(self.plan.outside, *command), timeout=timeout)

    def attempt_outside(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the guests' probe at the station outside the pool."""
        return self.attempt_at(self.plan.outside, *arguments, timeout=timeout)

    def attempt_at(self, namespace: str, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the guests' probe in one of the lab's namespaces."""
        return attempt(*within(namespace, str(image(lambda _: None).probe), *arguments), timeout=timeout)

    def start_outside(self, verb: str, name: str, *arguments: str) -> OutsideJob:
        """Start the guests' probe at the station outside; it runs until it is stopped."""
        return self.start_at(self.plan.outside, verb, name, *arguments)

    def start_on_host(self, host: str, verb: str, name: str, *arguments: str) -> OutsideJob:
        """Start the guests' probe in a host's network namespace, below its bridge and beside Buckler."""
        return self.start_at(self.plan.host(host).namespace, verb, name, *arguments)

    def start_at(self, namespace: str, verb: str, name: str, *arguments: str) -> OutsideJob:
        """Start the guests' probe in one of the lab's namespaces; it runs until it is stopped."""
        result = self.plan.folder / f"{namespace}-{name}"
        command = within(namespace, str(image(lambda _: None).probe), verb, str(result), *arguments)
        return OutsideJob(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL),
            result,
        )

    def domains(self) -> dict[str, str]:
        """Return the running guests: name → host."""
        return {name: host.name for host in self.plan.hosts for name in running_domains(self.pid(host.name))}

    def host_of(self, guest: str) -> str:
        """Say where a guest runs."""
        found = self.domains()
        if guest not in found:
            raise LabFailed(f"no guest {guest!r} runs; there are {', '.join(sorted(found))}")
        return found[guest]

    def channel(self, guest: str) -> Path:
        """Return the socket of a guest's command channel, wherever the guest is."""
        return self.root(self.host_of(guest)) / channel_path(guest).lstrip("/")

    def execute(self, guest: str, command: str, seconds: int = 30) -> Answer:
        """Run a shell command in a guest; ask again when it moved while we asked, or had no processor time for us."""
        identity = new_identity()
        for pause in (*PAUSES, None):
            try:
                return execute(self.channel(guest), command, seconds, identity)
            except ChannelBroken as broken:
                if words := self.panic_of(guest):
                    raise GuestCrashed(f"{guest} does not answer: {words}") from broken
                if pause is None:
                    raise LabFailed(f"{guest} does not answer: {broken}; {self._state_of(guest)}") from broken
                time.sleep(pause)
        raise AssertionError

    def panic_of(self, guest: str) -> str:
        """Return what a guest's kernel said when it gave up, where it is now; nothing when it did not."""
        console = self.root(self.host_of(guest)) / console_path(guest).lstrip("/")
        since_boot = console.read_text(errors="replace").rpartition(" ready after ")[2] if console.exists() else ""
        return next((line for line in since_boot.splitlines() if "Kernel panic" in line), "")

    def _state_of(self, guest: str) -> str:
        host = self.host_of(guest)
        return f"on {host}: {virsh(self.pid(host), 'domstate', guest, '--reason').strip()}"

    def define(self, guest: GuestPlan, host: str, passport: str = "") -> None:
        """Define a guest's domain."""
        self.prepare_disk(guest.name, host)
        path = f"/run/lab/{guest.name}.xml"
        (self.root(host) / path.lstrip("/")).write_text(domain_xml(guest, passport))
        virsh(self.pid(host), "define", path)

    def start(self, guest: str, host: str) -> None:
        """Start a defined guest; it boots in the background."""
        virsh(self.pid(host), "start", guest)

    def restart(self, guest: str) -> None:
        """End a guest's emulator and start the guest again where it was, booted.

        libvirt hears of the end before the start: after its own ``destroy`` it may take the new run for the old one that
        crashed (seen with 9.0, once in some eighty).
        """
        host = self.host_of(guest)
        self.run_on(host, "/bin/sh", "-c", 'kill "$(cat "/run/libvirt/qemu/$0.pid")"', guest)
        deadline = time.monotonic() + PATIENCE
        while guest in running_domains(self.pid(host)):
            if time.monotonic() > deadline:
                raise LabFailed(f"{guest} does not end within {PATIENCE:g} s")
            time.sleep(0.05)
        self.start(guest, host)
        self.wait_for(guest)

    def wait_for(self, guest: str) -> None:
        """Wait until a guest has booted."""
        wait_for_guest(self.channel(guest))

    def migrate(self, guest: str, destination: str, way: Way = Way.DIRECT) -> float:
        """Move a guest live with libvirt's own means; return the seconds it took."""
        if self.host_of(guest) == destination:
            return 0.0
        return self.move(guest, destination, way).wait()

    def move(self, guest: str, destination: str, way: Way = Way.DIRECT, *flags: str) -> Move:
        """Begin to move a guest that runs elsewhere; ``flags`` are virsh's own."""
        if way is Way.COPY_STORAGE:
            self.prepare_disk(guest, destination)
        source = self.pid(self.host_of(guest))
        return Move(source, guest, self.plan.host(destination).address, way, flags)

    def prepare_disk(self, guest: str, host: str) -> None:
        """Make room for a guest's disk where it will run: libvirt fills it, but does not make it."""
        if size := self.plan.guest(guest).disk_mib:
            self.run_on(host, "qemu-img", "create", "-q", "-f", "qcow2", disk_path(guest), f"{size}M")


def open_lab(folder: Path) -> DataCentre:
    """Find the running lab. Raises LabFailed."""
    state = read_state(folder)
    if state is None or not all(is_alive(pid) for pid in state.pids.values()):
        raise LabFailed("no lab is up here: `buckler lab up` brings one up")
    return DataCentre(state)


def build_lab(plan: LabPlan, progress: Progress) -> DataCentre:
    """Bring up namespaces, hosts and libvirt, after removing what an earlier lab left. No guest is started yet."""
    if not is_root():
        raise LabFailed("the lab makes namespaces: it needs root")
    if plan.folder.exists() or namespaces_of(plan.prefix):
        progress("removing what an earlier lab left")
        sweep(plan.folder, plan.prefix)
    state = LabState(plan, made_netns_folder=not NAMESPACES.exists())
    write_state(state)
    guest_image = image(progress)
    progress(f"wiring {len(plan.hosts)} hosts, the controller's machine and the outside")
    build_fabric(plan)
    with ThreadPoolExecutor(max_workers=4) as pool:
        hosts = {host.name: pool.submit(_start_host, host, guest_image) for host in plan.hosts}
        controller = pool.submit(start_machine, plan.controller)
        pids = {name: future.result() for name, future in hosts.items()}
        pids[plan.controller.name] = controller.result()
    write_state(LabState(plan, pids, state.made_netns_folder))
    progress("every host runs its own libvirtd")
    return DataCentre(LabState(plan, pids))


def start_guests(centre: DataCentre, guests: tuple[GuestPlan, ...], passports: dict[str, str]) -> None:
    """Define and start guests on the hosts the plan gives them and wait until all have booted."""

    def bring_up(guest: GuestPlan) -> None:
        centre.define(guest, guest.host, passports.get(guest.name, ""))
        centre.start(guest.name, guest.host)

    with ThreadPoolExecutor(max_workers=len(guests)) as pool:
        for done in [pool.submit(bring_up, guest) for guest in guests]:
            done.result()
        for waited in [pool.submit(centre.wait_for, guest.name) for guest in guests]:
            waited.result()


def _start_host(plan: HostPlan, guest_image: GuestImage) -> int:
    pid = start_machine(plan)
    start_libvirt(plan, pid, guest_image)
    return pid
