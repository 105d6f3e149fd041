"""``python -m tests.system.simulated_host FILE``: a real agent on a real kernel whose domains exist only in memory.

FILE names them with their taps, which exist: bridge, shield and guard have to do with as many as on a large host. No QEMU.
"""

import signal
import sys
import threading
from pathlib import Path

import msgspec

from buckler.agent.assemble import Agent
from buckler.agent.kernel import real_drivers
from buckler.agent.settings import read_settings
from buckler.drivers.inmemory.hypervisor import InMemoryHypervisor
from buckler.drivers.inmemory.performance import InMemoryPerformance


class Simulated(msgspec.Struct, frozen=True):
    """One VM that runs as far as anybody but a guest can see."""

    name: str
    uuid: str
    mac: str
    tap: str
    passport_xml: str


def domain(vm: Simulated) -> str:
    return (
        f"<domain type='qemu'><name>{vm.name}</name><uuid>{vm.uuid}</uuid>{vm.passport_xml}<memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices><interface type='bridge'>"
        f"<mac address='{vm.mac}'/><source bridge='br0'/><target dev='{vm.tap}'/><model type='virtio'/>"
        "</interface></devices></domain>"
    )


def main() -> int:
    hypervisor = InMemoryHypervisor()
    for vm in msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=tuple[Simulated, ...]):
        hypervisor.start(domain(vm))
    settings = read_settings()
    performance = InMemoryPerformance(hypervisor)
    drivers = msgspec.structs.replace(real_drivers(settings), hypervisor=hypervisor, performance=performance)
    agent = Agent(settings, drivers)
    is_over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: is_over.set())
    agent.start()
    while not is_over.wait(1.0):
        pass
    agent.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
