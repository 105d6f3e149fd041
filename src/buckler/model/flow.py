"""Flow records: who spoke with whom, by identity, and what became of it."""

from __future__ import annotations

import msgspec


class FlowRecord(msgspec.Struct, frozen=True):
    """Packets of one connection attempt or of one refusal, as one shield saw them.

    ``local`` is the VM whose shield judged; ``peer`` is a VM's name, or ``world``, ``host``, ``group``, ``infra``.
    ``direction`` is ``egress`` or ``ingress``; ``verdict`` is ``allow`` or ``deny``; ``reason`` is the name of the
    REASON_* in bpf/abi.h, ``rule`` and ``policy`` name what decided (empty: default deny). Times are Unix seconds.
    ``logged``: told because the rule that decided logs. ``answered``: rejected, and the shield said so on the wire.
    ``staged`` is what the staged draft says of it (allow, deny, reject; empty: no draft), ``staged_rule`` by which rule.
    ``service``: the Service through whose virtual address ``local`` speaks with its member; empty: directly.
    """

    at: float
    host: str
    local: str
    peer: str
    direction: str
    verdict: str
    reason: str
    protocol: str
    source: str
    destination: str
    source_port: int
    destination_port: int
    policy: str = ""
    rule: str = ""
    packets: int = 1
    bytes: int = 0
    shed_before: int = 0
    logged: bool = False
    answered: bool = False
    staged: str = ""
    staged_policy: str = ""
    staged_rule: str = ""
    service: str = ""
