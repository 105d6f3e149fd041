"""What a host's owner tells its agent, read once. Holds no run-time state."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from buckler.agent.desired import Roles

DEFAULT_PATH = Path("/etc/buckler/agent.yaml")
DEFAULT_STATE = "/var/lib/buckler/agent"
DEFAULT_SOCKET = "/run/buckler/agent.sock"
DEFAULT_PINS = "/sys/fs/bpf/buckler"
DEFAULT_HANDOVER_PORT = 7847
HOOK_SETTINGS = Path("/etc/buckler/hook.conf")


class BadSettings(ValueError):
    """The settings file cannot be used; the message says why."""


class WithoutAgent(StrEnum):
    """What the hook answers while no agent does."""

    CLOSED = "closed"
    OPEN = "open"


class AgentSettings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """``tunnel`` and ``outside`` name bridge ports, ``fabric`` the interface that tunnels use.

    ``handover_port`` is where other members' agents reach this one on its fabric address: the same on all hosts of a pool.
    ``bridges`` are closed even before the first manifest names them. ``without_agent`` is what the hook answers
    while no agent does: such a VM starts, and its taps stay closed by the guard. ``samples_kept`` is how many performance
    samples wait on the host's disk while no controller takes them; older ones are shed, and counted.
    """

    controllers: tuple[str, ...] = ()
    name: str = ""
    tunnel: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    fabric: str = ""
    fabric_address: str = ""
    handover_port: int = DEFAULT_HANDOVER_PORT
    addresses: tuple[str, ...] = ()
    migrate_uri: str = ""
    bridges: tuple[str, ...] = ()
    libvirt: str = "qemu:///system"
    state: str = DEFAULT_STATE
    socket: str = DEFAULT_SOCKET
    pins: str = DEFAULT_PINS
    without_agent: WithoutAgent = WithoutAgent.CLOSED
    hook_deadline: float = 10.0
    pass_seconds: float = 1.0
    sweep_seconds: float = 30.0
    sample_seconds: float = 10.0
    samples_kept: int = 50_000

    @property
    def roles(self) -> Roles:
        return Roles(
            tunnel=frozenset(self.tunnel),
            outside=frozenset(self.outside),
            fabric=self.fabric,
            bridges=frozenset(self.bridges),
        )


def read_settings(path: Path = DEFAULT_PATH) -> AgentSettings:
    """Read the file; none at all means the defaults. Raises BadSettings."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return AgentSettings()
    except OSError as error:
        raise BadSettings(f"{path}: {error}") from error
    try:
        settings: AgentSettings = msgspec.yaml.decode(text or b"{}", type=AgentSettings)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadSettings(f"{path}: {error}") from error
    return settings


def hook_settings_text(settings: AgentSettings) -> str:
    """The tiny file that the hook reads: it must not need a YAML parser."""
    return (
        f"socket={settings.socket}\ndeadline={settings.hook_deadline}\nwithout_agent={settings.without_agent.value}\n"
    )
