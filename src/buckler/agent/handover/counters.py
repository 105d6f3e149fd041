"""What each rule decided about a VM until now, handed over to where it goes. The controller sums hosts' own counts itself."""

from __future__ import annotations

import msgspec

from buckler.agent.counted import Inherited, is_behind, why_unsound
from buckler.agent.counting import Counting
from buckler.agent.handover.section import BadSection, Content
from buckler.agent.handover.taking import Taken, read_body
from buckler.model.agentapi import Counter
from buckler.model.ids import VmId

_MOST_BYTES = 4 * 1024 * 1024


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vm: VmId
    counters: tuple[Counter, ...]


class CountersSection:
    """agent/handover/section.Section."""

    name = "counters"
    version = 1

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._taken = Taken[Inherited]()

    def give(self, vm: VmId) -> bytes:
        """See the protocol: to this moment."""
        return msgspec.json.encode(_Body(vm, self._counting.totals(vm)))

    def take(self, vm: VmId, content: Content) -> None:
        """See the protocol. What this host had counted by the first part of a handover was told to others before."""
        given = self._read(vm, content)

        def follow(earlier: Inherited | None) -> Inherited:
            if earlier is not None and is_behind(given, earlier.base):
                raise BadSection("counters that went back")
            return Inherited(given, self._counting.own(vm) if earlier is None else earlier.start)

        self._taken.replace(vm, follow)

    def keep(self, vm: VmId) -> None:
        """See the protocol."""
        taken = self._taken.pop(vm)
        if taken is not None:
            self._counting.adopt(vm, taken)

    def drop(self, vm: VmId) -> None:
        """See the protocol."""
        self._taken.pop(vm)

    def _read(self, vm: VmId, content: Content) -> tuple[Counter, ...]:
        body = read_body(self.name, content, self.version, _MOST_BYTES, _Body)
        number = self._counting.number_of(vm)
        if body.vm != vm or number is None:
            raise BadSection("counters of another VM")
        if why := why_unsound(body.counters, number):
            raise BadSection(why)
        return body.counters
