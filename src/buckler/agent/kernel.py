"""The real doors of a host: libvirt, the shield's programs, the guard, rtnetlink, one file of state. Decides nothing."""

from __future__ import annotations

from pathlib import Path

from buckler.agent.apply import Kernel
from buckler.agent.assemble import Drivers
from buckler.agent.settings import AgentSettings
from buckler.drivers.ebpf.address_book import EbpfAddressBook
from buckler.drivers.ebpf.bridge_ports import EbpfPorts
from buckler.drivers.ebpf.claims import EbpfClaims
from buckler.drivers.ebpf.connections import EbpfConnections
from buckler.drivers.ebpf.kernel import Kernel as EbpfKernel
from buckler.drivers.ebpf.reasons import Reason
from buckler.drivers.ebpf.services import EbpfServices
from buckler.drivers.ebpf.shield import EbpfShield
from buckler.drivers.ebpf.telemetry import EbpfTelemetry
from buckler.drivers.libvirt.hypervisor import LibvirtHypervisor
from buckler.drivers.libvirt.performance import LibvirtPerformance
from buckler.drivers.netlink.links import NetlinkLinks
from buckler.drivers.nftables.guard import NftablesGuard
from buckler.drivers.state.sqlite import SqliteState


def real_drivers(settings: AgentSettings) -> Drivers:
    """Open what can be opened before anything is changed. Raises StateFailed."""
    loaded = EbpfKernel(Path(settings.pins))
    shield = EbpfShield(loaded)
    return Drivers(
        state=SqliteState(Path(settings.state)),
        hypervisor=LibvirtHypervisor(settings.libvirt),
        performance=LibvirtPerformance(settings.libvirt),
        kernel=Kernel(
            shield=shield,
            book=EbpfAddressBook(loaded),
            services=EbpfServices(loaded),
            ports=EbpfPorts(loaded),
            upkeep=shield,
            guard=NftablesGuard(),
            links=NetlinkLinks(),
        ),
        telemetry=EbpfTelemetry(loaded),
        claims=EbpfClaims(loaded),
        connections=EbpfConnections(loaded),
        reasons={reason.value: reason.name.lower().replace("_", "-") for reason in Reason},
    )
