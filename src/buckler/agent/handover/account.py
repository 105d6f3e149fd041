"""What is told of a move besides that it happened: who, from where, with what. Waits for the end of a handover, not for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from buckler.model.ids import HostId, VmId

WHOLE = "whole"
STAYS = "the VM stays"
_IN_PART = "all but "


def in_part(lacking: Mapping[str, str]) -> str:
    """A handover that lacks these sections, each with why."""
    return _IN_PART + "; ".join(f"{name} ({why[:200]})" for name, why in sorted(lacking.items()))


class Account(msgspec.Struct, frozen=True):
    """``handover`` is ``whole``, or why there was none or not all of it, in words. Digests are of model.binding.

    ``stays``: ``origin`` says that the VM runs there and is not leaving. ``origin`` and ``destination`` are hosts as the pool calls them, empty when nobody told.
    """

    vm: VmId = VmId("")
    origin: HostId = HostId("")
    destination: HostId = HostId("")
    epoch: int = 0
    task: str = ""
    actor: str = ""
    binding_before: str = ""
    binding_after: str = ""
    connections_moved: int = 0
    connections_refused: dict[str, int] = {}
    sections: tuple[str, ...] = ()
    serial: int = 0
    bytes: int = 0
    seconds: float = 0.0
    handover: str = ""
    stays: bool = False

    @property
    def is_complete(self) -> bool:
        """The last word was given and taken, be some section lacking."""
        return self.handover == WHOLE or self.handover.startswith(_IN_PART)

    def detail(self) -> dict[str, Any]:
        """For an event: what is known."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["vm"]
        fields["from"], fields["to"] = fields.pop("origin"), fields.pop("destination")
        fields["who"] = fields.pop("actor") or ("" if fields["task"] else "libvirt")
        return {name: value for name, value in fields.items() if value not in ("", 0, (), [], {}, 0.0)} | {
            "connections_moved": self.connections_moved,
            "connections_refused": sum(self.connections_refused.values()),
            "refused": self.connections_refused,
            "handover": self.handover,
        }


Tell = Callable[[Account], None]


class Pending:
    """One handover's account: told once, when both the handover and libvirt's word are there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._account: Account | None = None
        self._tell: Tell | None = None

    def finish(self, account: Account) -> None:
        """The handover is over; its first end counts."""
        with self._lock:
            if self._account is not None:
                return
            self._account = account
            tell = self._tell
        if tell is not None:
            tell(account)

    def ask(self, tell: Tell) -> None:
        """Call ``tell`` as soon as it is over, at once when it is."""
        with self._lock:
            self._tell = tell
            account = self._account
        if account is not None:
            tell(account)
