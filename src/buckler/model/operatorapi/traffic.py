"""What VMs sent and used, over the operator API: flows, counters, performance samples. Counts nothing."""

from __future__ import annotations

from buckler.model.flow import FlowRecord
from buckler.model.operatorapi.body import Answer


class FlowItem(Answer, frozen=True):
    """``cursor`` goes into ``after`` to read on. ``shed`` counts events known to be missing just before this one."""

    cursor: int
    flow: FlowRecord
    shed: int = 0


class CounterItem(Answer, frozen=True):
    """Packets between two ends that one rule decided, as ``local``'s shields counted, over all hosts it was on.

    The verdict ``shed`` counts events that a host's shields did not tell as flows; it has no ends, and its packets are
    in the other counters.
    """

    local: str
    peer: str
    direction: str
    verdict: str
    policy: str
    rule: str
    packets: int
    bytes: int
    hosts: tuple[str, ...] = ()


class SampleItem(Answer, frozen=True):
    """What a VM had used by a moment, over all hosts it was on; only ``memory`` (bytes) is of the moment itself.

    ``host`` measured it. Packets are those that the VM's shields let pass, seen from the VM; ``refused`` ones did not.
    """

    at: float
    host: str
    memory: int
    cpu_seconds: float
    read_bytes: int
    read_requests: int
    written_bytes: int
    write_requests: int
    sent_packets: int
    sent_bytes: int
    received_packets: int
    received_bytes: int
    refused_packets: int


class VmLoad(Answer, frozen=True):
    """A VM's newest sample, and the one that is at least ``seconds`` older, to make rates of; None: it has none."""

    vm: str
    tenant: str
    last: SampleItem | None = None
    earlier: SampleItem | None = None
