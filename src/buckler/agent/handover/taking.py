"""What sections that are small texts have in common: reading a body, and holding it until its VM is here. Owns no meaning of any."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from buckler.agent.handover.section import BadSection, Content
from buckler.model.ids import VmId

Form = TypeVar("Form")
Held = TypeVar("Held")


def read_body(name: str, content: Content, version: int, most: int, form: type[Form]) -> Form:
    """Read what another host gave. Raises BadSection."""
    if content.version != version:
        raise BadSection(f"{name} of version {content.version}")
    if len(content.body) > most:
        raise BadSection(f"{name} that are too large")
    try:
        return msgspec.json.decode(content.body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadSection(f"{name} that cannot be read: {error}") from error


class Taken(Generic[Held]):
    """By VM, what was taken last; one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[VmId, Held] = {}

    def replace(self, vm: VmId, make: Callable[[Held | None], Held]) -> None:
        """Hold what ``make`` says in place of what was taken before, unless it raises."""
        with self._lock:
            self._held[vm] = make(self._held.get(vm))

    def pop(self, vm: VmId) -> Held | None:
        """Give what was taken, and forget it."""
        with self._lock:
            return self._held.pop(vm, None)
