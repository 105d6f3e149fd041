"""Observe the kernel and take the planned steps in it. Decides nothing but one thing: what failed is not opened.

A step of one port that fails keeps that port closed; any other that fails keeps everything closed that was not open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from buckler.agent import plan as steps
from buckler.agent.desired import Desired, Observed
from buckler.model.ids import Digest
from buckler.model.program import Program
from buckler.model.shield import GuardState, Tap
from buckler.ports.guard import Guard, GuardFailed
from buckler.ports.links import Link, Links, LinksFailed
from buckler.ports.shield import AddressBook, Ports, Services, Shield, ShieldFailed, Upkeep

OnStep = Callable[[str], None]


class Kernel(msgspec.Struct, frozen=True):
    """The drivers that together are this host's kernel."""

    shield: Shield
    book: AddressBook
    services: Services
    ports: Ports
    upkeep: Upkeep
    guard: Guard
    links: Links


class Applied(msgspec.Struct, frozen=True):
    """What failed. ``owes_rejudge``: that this failed is the one thing which reading the kernel back does not show."""

    problems: tuple[str, ...] = ()
    owes_rejudge: bool = False


def observe(kernel: Kernel, links: Mapping[int, Link]) -> Observed:
    """Read everything back. Raises ShieldFailed, GuardFailed."""
    taps = kernel.shield.taps()
    return Observed(
        taps=taps,
        leftovers=kernel.upkeep.held() - taps.keys(),
        programs=kernel.shield.programs(),
        addresses=kernel.book.addresses(),
        macs=kernel.book.macs(),
        services=kernel.services.services(),
        bridge_ports=kernel.ports.bridge_ports(),
        guard=kernel.guard.observe(),
        learning={link.ifindex: link.learning for link in links.values() if link.bridge},
    )


def apply(
    planned: tuple[steps.Step, ...],
    kernel: Kernel,
    desired: Desired,
    programs: Mapping[Digest, Program],
    on_step: OnStep,
) -> Applied:
    """Take all steps; a step that fails is told and does not keep the others back, but opens nothing."""
    problems: list[str] = []
    failed: set[int] = set()
    is_sound, owes_rejudge = True, False
    taps = [step.tap for step in planned if isinstance(step, steps.PutTap)]
    for step in planned:
        if isinstance(step, steps.PutTap) and len(taps) > 1:
            _prepare(kernel, taps)
            taps = []
        name = step_name(step)
        on_step(f"before {name}")
        try:
            _take(step, kernel, desired, programs, failed if is_sound else None)
        except (ShieldFailed, GuardFailed, LinksFailed) as error:
            port = port_of(step)
            problems.append(f"{name}: {error}")
            failed |= set() if port is None else {port}
            is_sound = is_sound and port is not None
            owes_rejudge = owes_rejudge or isinstance(step, steps.Rejudge)
        on_step(f"after {name}")
    return Applied(tuple(problems), owes_rejudge)


def port_of(step: steps.Step) -> int | None:
    """The one interface that a step bears on; None when it bears on others as well."""
    match step:
        case steps.SetLearning(ifindex, _) | steps.DeleteTap(ifindex) | steps.DeleteBridgePort(ifindex):
            return ifindex
        case steps.PutTap(tap):
            return tap.ifindex
        case steps.PutBridgePort(port):
            return port.ifindex
    return None


def _prepare(kernel: Kernel, taps: list[Tap]) -> None:
    """What fails here is tried again, tap by tap, and told then."""
    with suppress(ShieldFailed):
        kernel.shield.prepare_taps(taps)


def step_name(step: steps.Step) -> str:
    """``PutTap`` → ``put-tap``."""
    word = type(step).__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in word).lstrip("-")


def _take(
    step: steps.Step,
    kernel: Kernel,
    desired: Desired,
    programs: Mapping[Digest, Program],
    failed: set[int] | None,
) -> None:
    """``failed`` are the ports that must not open now; None for all."""
    shield = kernel.shield
    match step:
        case steps.CloseGuard(state):
            kernel.guard.apply(state)
        case steps.OpenGuard(state):
            kernel.guard.apply(_proven(state, kernel, desired, failed))
        case steps.SetLearning(ifindex, learning):
            kernel.links.set_learning(ifindex, learning=learning)
        case steps.PutProgram(digest):
            shield.put_program(digest, _program(digest, programs))
        case steps.PutTap(tap):
            shield.put_tap(tap)
        case steps.PutAddresses(entries):
            kernel.book.put_addresses(entries)
        case steps.PutMacs(entries):
            kernel.book.put_macs(entries)
        case steps.PutServices(entries):
            kernel.services.put_services(entries)
        case steps.PutBridgePort(port):
            kernel.ports.put_bridge_port(port)
        case steps.Rejudge():
            shield.rejudge()
        case _:
            _delete(step, kernel)


def _delete(step: steps.Step, kernel: Kernel) -> None:
    match step:
        case steps.DeleteTap(ifindex):
            kernel.shield.delete_tap(ifindex)
        case steps.DeleteBridgePort(ifindex):
            kernel.ports.delete_bridge_port(ifindex)
        case steps.DeleteServices(keys):
            kernel.services.delete_services(keys)
        case steps.DeleteMacs(keys):
            kernel.book.delete_macs(keys)
        case steps.DeleteAddresses(keys):
            kernel.book.delete_addresses(keys)
        case steps.DeleteProgram(digest):
            kernel.shield.delete_program(digest)


def _program(digest: Digest, programs: Mapping[Digest, Program]) -> Program:
    try:
        return programs[digest]
    except KeyError as error:
        raise ShieldFailed(f"the manifest does not hold the program {digest}") from error


def _proven(state: GuardState, kernel: Kernel, desired: Desired, failed: set[int] | None) -> GuardState:
    """Leave out every port whose shield does not read back as desired; after a failure open nothing new that it bears on."""
    taps, ports = kernel.shield.taps(), kernel.ports.bridge_ports()
    proven = {index for index, tap in taps.items() if _is_desired(tap, desired)}
    proven |= {index for index, port in ports.items() if desired.bridge_ports.get(index) == port}
    if failed is None or failed:
        standing = kernel.guard.observe()
        was_open = set() if standing is None else {index for index, _ in standing.ports}
        proven -= (proven if failed is None else failed) - was_open
    return msgspec.structs.replace(state, ports=frozenset(pair for pair in state.ports if pair[0] in proven))


def _is_desired(tap: Tap, desired: Desired) -> bool:
    wanted = desired.taps.get(tap.ifindex)
    return wanted is not None and steps.normal(wanted) == steps.normal(tap)
