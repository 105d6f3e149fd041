"""What a VM used until now, handed over to where it goes. The controller's sums need none of it: each host tells its share."""

from __future__ import annotations

import msgspec

from buckler.agent.handover.section import BadSection, Content
from buckler.agent.handover.taking import Taken, read_body
from buckler.agent.sampling import Sampling
from buckler.agent.series import Inherited
from buckler.model.ids import VmId
from buckler.model.sample import Totals, highest, is_sound

_MOST_BYTES = 4096


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vm: VmId
    totals: Totals


class PerformanceSection:
    """agent/handover/section.Section."""

    name = "performance"
    version = 1

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._taken = Taken[tuple[Totals, Inherited]]()

    def give(self, vm: VmId) -> bytes:
        """See the protocol: packets to this moment, the rest as last measured."""
        return msgspec.json.encode(_Body(vm, self._sampling.total(vm)))

    def take(self, vm: VmId, content: Content) -> None:
        """See the protocol. What this host had measured by the first part of a handover was told to others before."""
        given = _read(vm, content)

        def follow(earlier: tuple[Totals, Inherited] | None) -> tuple[Totals, Inherited]:
            if earlier is None:
                return given, self._sampling.prepare(vm, given)
            if highest(given, earlier[0]) != given:
                raise BadSection("performance that went back")
            return given, msgspec.structs.replace(earlier[1], base=highest(given, earlier[1].base))

        self._taken.replace(vm, follow)

    def keep(self, vm: VmId) -> None:
        """See the protocol."""
        taken = self._taken.pop(vm)
        if taken is not None:
            self._sampling.adopt(vm, taken[1])

    def drop(self, vm: VmId) -> None:
        """See the protocol."""
        self._taken.pop(vm)


def _read(vm: VmId, content: Content) -> Totals:
    body = read_body("performance figures", content, PerformanceSection.version, _MOST_BYTES, _Body)
    if body.vm != vm:
        raise BadSection("performance of another VM")
    if not is_sound(body.totals):
        raise BadSection("performance that cannot be so")
    return body.totals
