"""Sections that no room of this agent knows: kept unread for the VM's next host. Bounded; owns no meaning."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import msgspec

from buckler.agent.handover.section import Content
from buckler.model.ids import VmId
from buckler.ports.state import State

MAX_CARRIED = 16
MAX_BYTES = 1024 * 1024


class _Kept(msgspec.Struct, frozen=True):
    """``epoch`` is the stay that they belong to: a later one's are not forgotten by an earlier one's end."""

    epoch: int
    sections: dict[str, Content]


class Carried:
    """On disk, because a VM may stay for longer than an agent lives."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()

    def keep(self, vm: VmId, epoch: int, sections: Mapping[str, Content]) -> tuple[str, ...]:
        """What came with the VM replaces what an earlier stay left. Returns the names that found no room."""
        kept: dict[str, Content] = {}
        for name, content in sorted(sections.items()):
            if has_room(kept, content):
                kept[name] = content
        with self._lock:
            if kept or self._read(vm).sections:
                self._state.put_document(_name(vm), msgspec.json.encode(_Kept(epoch, kept)).decode())
        return tuple(sorted(sections.keys() - kept.keys()))

    def sections(self, vm: VmId) -> dict[str, Content]:
        """What is to go on with the VM."""
        with self._lock:
            return self._read(vm).sections

    def forget(self, vm: VmId, epoch: int) -> None:
        """The VM's stay with this epoch is over."""
        with self._lock:
            kept = self._read(vm)
            if kept.sections and kept.epoch <= epoch:
                self._state.put_document(_name(vm), "")

    def _read(self, vm: VmId) -> _Kept:
        text = self._state.document(_name(vm))
        return msgspec.json.decode(text, type=_Kept) if text else _Kept(0, {})


def has_room(kept: Mapping[str, Content], content: Content) -> bool:
    """Whether one more section can be carried beside these."""
    size = sum(len(each.body) for each in kept.values())
    return len(kept) < MAX_CARRIED and size + len(content.body) <= MAX_BYTES


def _name(vm: VmId) -> str:
    return f"carried/{vm}"
