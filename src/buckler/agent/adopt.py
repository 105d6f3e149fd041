"""Before libvirt has answered once, nobody knows whose the taps in the kernel are: keep them as they are. Pure."""

from __future__ import annotations

import msgspec

from buckler.agent.desired import Desired, Observed


def keep_unknown(desired: Desired, observed: Observed) -> Desired:
    """Leave taps alone that an earlier agent shielded and admitted; open none that the guard does not let through."""
    unknown = {index: tap for index, tap in observed.taps.items() if index not in desired.taps}
    ports = frozenset() if observed.guard is None else observed.guard.ports
    kept = frozenset(pair for pair in ports if pair[0] in unknown)
    return msgspec.structs.replace(
        desired,
        taps={**desired.taps, **unknown},
        guard=msgspec.structs.replace(desired.guard, ports=desired.guard.ports | kept),
        learning={index: learning for index, learning in desired.learning.items() if index not in unknown},
    )
