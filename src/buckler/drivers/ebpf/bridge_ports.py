"""ports/shield.Ports on the loaded object: bridge ports that are no tap."""

from __future__ import annotations

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.kernel import Kernel
from buckler.model.ids import Zone
from buckler.model.shield import BridgePort, PortRole
from buckler.ports.shield import ShieldFailed

ROLE_HOOKS = {PortRole.OUTSIDE: "port_from_outside", PortRole.TUNNEL: "port_from_tunnel"}


class EbpfPorts:
    """A frame with a VLAN that the port does not name is dropped."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def bridge_ports(self) -> dict[int, BridgePort]:
        """See the port."""
        try:
            found = {ifindex: self._read(ifindex, vlans) for ifindex, vlans in self._configured().items()}
        except (OSError, ValueError) as failure:
            raise ShieldFailed(f"cannot read bridge ports: {failure}") from failure
        return {ifindex: port for ifindex, port in found.items() if port is not None}

    def put_bridge_port(self, port: BridgePort) -> None:
        """See the port."""
        with self._kernel.lock:
            try:
                self._put(port)
            except OSError as failure:
                raise ShieldFailed(f"cannot configure bridge port {port.ifindex}: {failure}") from failure

    def delete_bridge_port(self, ifindex: int) -> None:
        """See the port."""
        with self._kernel.lock:
            try:
                self._delete(ifindex)
            except OSError as failure:
                raise ShieldFailed(f"cannot delete bridge port {ifindex}: {failure}") from failure

    def _configured(self) -> dict[int, dict[int, tuple[int, int]]]:
        """Return ifindex → VLAN → (role, zone)."""
        found: dict[int, dict[int, tuple[int, int]]] = {}
        for key, value in self._kernel["ports"].items().items():
            ifindex, vlan = layout.PORT_KEY.unpack(key)
            role, zone = layout.PORT.unpack(value)
            found.setdefault(ifindex, {})[vlan] = (role, zone)
        return found

    def _read(self, ifindex: int, vlans: dict[int, tuple[int, int]]) -> BridgePort | None:
        roles = {role for role, _ in vlans.values()}
        if len(roles) != 1 or 0 not in vlans:
            return None
        role = PortRole(roles.pop())
        if not self._kernel.attachments.is_attached(ifindex, ROLE_HOOKS[role]):
            return None
        tagged = tuple(sorted((vlan, Zone(zone)) for vlan, (_, zone) in vlans.items() if vlan))
        return BridgePort(ifindex, role, Zone(vlans[0][1]), tagged)

    def _put(self, port: BridgePort) -> None:
        counters, number = self._kernel["counters"], layout.U32.pack(port.ifindex)
        if counters.get(number) is None:
            counters.put(number, bytes(counters.read_size))
        self._kernel.attachments.attach(port.ifindex, ROLE_HOOKS[port.role])
        wanted = {
            layout.PORT_KEY.pack(port.ifindex, vlan): layout.PORT.pack(port.role, zone)
            for vlan, zone in ((0, port.zone), *port.vlans)
        }
        self._kernel["ports"].put_all(wanted)
        self._forget(port.ifindex, frozenset(wanted))
        for role, hook in ROLE_HOOKS.items():
            if role is not port.role:
                self._kernel.attachments.detach(port.ifindex, hook)

    def _forget(self, ifindex: int, kept: frozenset[bytes]) -> None:
        ports = self._kernel["ports"]
        for key in list(ports.each_key()):
            if layout.PORT_KEY.unpack(key)[0] == ifindex and key not in kept:
                ports.delete(key)

    def _delete(self, ifindex: int) -> None:
        self._forget(ifindex, frozenset())
        for hook in ROLE_HOOKS.values():
            self._kernel.attachments.detach(ifindex, hook)
        self._kernel["counters"].delete(layout.U32.pack(ifindex))
