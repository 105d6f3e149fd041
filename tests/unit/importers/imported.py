"""What Buckler says of an import: written as files, read again, and listed as `buckler policy reach` lists it."""

from __future__ import annotations

import ipaddress

from buckler.model.program import Verdict
from buckler.policy.documents import read_documents
from buckler.policy.draft import draft_pool
from buckler.policy.importers.outcome import Effect, Import, Loss
from buckler.policy.importers.written import LOSSES, import_files
from buckler.policy.language import PROTOCOLS
from buckler.policy.matrix import Connection, list_talks
from buckler.policy.packet import Packet
from buckler.policy.reference import judge
from buckler.policy.source import Source


def unlike(result: Import) -> list[Loss]:
    """List the losses, without those on link-local addresses, which no question about declared addresses meets."""
    return [each for each in result.losses if each.effect is not Effect.NOTE and "link-local" not in each.what]


class Imported:
    """The matrix of the written files; VMs are ``namespace/name``, outside are addresses."""

    def __init__(self, result: Import) -> None:
        assert not result.unreadable, result.unreadable
        files = import_files(result)
        reading = read_documents(Source(name, text) for name, text in sorted(files.items()) if name != LOSSES)
        assert not reading.problems, reading.problems
        self.draft = draft_pool(reading.documents)
        self.talks = {}
        self.outward, self.inward = {}, {}
        for each in list_talks(self.draft):
            if each.origin.vm and each.to.vm:
                self.talks[each.origin.vm, each.to.vm] = each.connections
            elif each.origin.vm:
                self.outward.setdefault(each.origin.vm, []).append((each.to.blocks, each.connections))
            else:
                self.inward.setdefault(each.to.vm, []).append((each.origin.blocks, each.connections))

    def reaches(self, source: str, target: str, protocol: str, port: int) -> bool:
        """Ask about two ends; one of them may be an address."""
        if ":" in source or source[0].isdigit():
            return _in_blocks(self.inward.get(target, []), source, protocol, port)
        if ":" in target or target[0].isdigit():
            return _in_blocks(self.outward.get(source, []), target, protocol, port)
        return _in_connections(self.talks.get((source, target), ()), protocol, port)

    def answers(self, source: str, target: str, protocol: str, port: int) -> bool:
        """Ask whether the shield that refuses a packet first answers it."""
        packet = Packet(self.network, self._address(source), self._address(target), PROTOCOLS[protocol], port)
        judged = judge(self.draft.pool, self.draft.documents, packet)
        refusing = [end for end in (judged.egress, judged.ingress) if end is not None and not end.allowed]
        return refusing[0].verdict is Verdict.REJECT

    @property
    def network(self) -> str:
        """The one network of everything here."""
        (network,) = self.draft.pool.networks
        return network.name

    def _address(self, end: str) -> str:
        named = [vm for vm in self.draft.pool.vms if f"{vm.tenant}/{vm.name}" == end]
        return named[0].interfaces[0].addresses[0] if named else end


def _in_blocks(rows: list[tuple[tuple[str, ...], object]], address: str, protocol: str, port: int) -> bool:
    parsed = ipaddress.ip_address(address)
    found = [row for row in rows if any(parsed in ipaddress.ip_network(block) for block in row[0])]
    return any(_in_connections(connections, protocol, port) for _blocks, connections in found)


def _in_connections(connections: str | tuple[Connection, ...], protocol: str, port: int) -> bool:
    if connections == "all":
        return True
    return any(
        each.protocol == protocol and any(low <= port <= high for low, high in each.ports or each.types)
        for each in connections
    )
