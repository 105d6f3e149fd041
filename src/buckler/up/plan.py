"""What is to be done so that controller and agent run on this machine. Pure: facts in, steps or refusals out."""

from __future__ import annotations

from enum import StrEnum

import msgspec

KERNEL = (6, 1)


class Hook(StrEnum):
    """What stands where libvirt looks for its qemu hook. ``foreign`` is somebody else's: never overwritten."""

    ABSENT = "absent"
    OURS = "ours"
    OUTDATED = "outdated"
    FOREIGN = "foreign"


class Facts(msgspec.Struct, frozen=True):
    """What was observed. ``pool_elsewhere`` names the controller of a pool that this host already belongs to."""

    is_root: bool
    kernel: tuple[int, int]
    has_libvirt: bool
    has_bpffs: bool
    has_controller_settings: bool
    has_agent_settings: bool
    hook: Hook
    is_member: bool
    controller_answers: bool
    agent_answers: bool
    pool_elsewhere: str = ""


class Step(StrEnum):
    """One thing to do; the value is what is said when it is done."""

    WRITE_CONTROLLER_SETTINGS = "write the controller's settings"
    WRITE_AGENT_SETTINGS = "write the agent's settings"
    INSTALL_HOOK = "install libvirt's hook"
    START_CONTROLLER = "start the controller"
    JOIN = "make this host a member of its pool"
    START_AGENT = "start the agent"


class Refusal(msgspec.Struct, frozen=True):
    """Why it cannot be done here, and what to do about it."""

    reason: str
    hint: str


def refuse(facts: Facts) -> tuple[Refusal, ...]:
    """Return everything that stands in the way, all at once."""
    found = []
    if not facts.is_root:
        found.append(Refusal("only root can load programs into the kernel", "run it with sudo"))
    if facts.kernel < KERNEL:
        running, needed = (".".join(map(str, version)) for version in (facts.kernel, KERNEL))
        found.append(Refusal(f"Linux {running} is too old for the shields", f"Linux {needed} or later is needed"))
    if not facts.has_libvirt:
        found.append(
            Refusal("libvirt does not listen here", "apt-get install libvirt-daemon-system, and start libvirtd")
        )
    if not facts.has_bpffs:
        found.append(Refusal("/sys/fs/bpf is no bpf file system", "mount -t bpf bpf /sys/fs/bpf"))
    if facts.hook is Hook.FOREIGN:
        hint = "move it to /etc/libvirt/hooks/qemu.d/, where libvirt calls it too, and start again"
        found.append(Refusal("libvirt has another qemu hook already: /etc/libvirt/hooks/qemu", hint))
    if facts.pool_elsewhere:
        hint = "here only the agent is to run: `buckler agent run`"
        found.append(Refusal(f"this host is a member of the pool of {facts.pool_elsewhere}", hint))
    return tuple(found)


def plan(facts: Facts) -> tuple[Step, ...]:
    """Return what is missing, in order. Nothing when everything runs. Never asked while ``refuse`` finds something."""
    needed = {
        Step.WRITE_CONTROLLER_SETTINGS: not facts.has_controller_settings,
        Step.WRITE_AGENT_SETTINGS: not facts.has_agent_settings,
        Step.INSTALL_HOOK: facts.hook in (Hook.ABSENT, Hook.OUTDATED),
        Step.START_CONTROLLER: not facts.controller_answers,
        Step.JOIN: not facts.is_member,
        Step.START_AGENT: not facts.agent_answers,
    }
    return tuple(step for step in Step if needed[step])
