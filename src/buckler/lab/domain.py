"""libvirt's XML of a lab guest. Pure."""

from __future__ import annotations

from xml.sax.saxutils import escape

from buckler.lab.plan import BRIDGE, MTU, SERVED, GuestPlan
from buckler.model.domain import PASSPORT_NAMESPACE

MEMORY_MIB = 96


def channel_path(name: str) -> str:
    """Return the socket of a guest's command channel, inside its host."""
    return f"/run/lab/channel/{name}.sock"


def console_path(name: str) -> str:
    """Return the log of a guest's serial console, on every host where it ran."""
    return f"/run/lab/console/{name}.log"


def disk_path(name: str) -> str:
    """Return where a guest's disk is, on every host."""
    return f"/var/lib/libvirt/images/{name}.qcow2"


def domain_xml(guest: GuestPlan, passport: str = "") -> str:
    """Describe the guest. TCG: the lab needs no hardware virtualisation. Two free PCIe ports are for hot-plugging."""
    metadata = (
        f"<metadata><buckler:passport xmlns:buckler='{PASSPORT_NAMESPACE}'>{escape(passport)}</buckler:passport></metadata>"
        if passport
        else ""
    )
    return f"""\
<domain type='qemu'>
  <name>{guest.name}</name>
  <uuid>{guest.uuid}</uuid>
  {metadata}
  <memory unit='MiB'>{MEMORY_MIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>/run/lab/boot/vmlinuz</kernel>
    <initrd>/run/lab/boot/initramfs</initrd>
    <cmdline>{escape(_command_line(guest))}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <controller type='pci' model='pcie-root'/>
    {"".join("<controller type='pci' model='pcie-root-port'/>" for _ in range(8))}
    {_disk_xml(guest)}
    {interface_xml(guest.mac, guest.bridge)}
    <serial type='file'><source path='{console_path(guest.name)}' append='on'/><target port='0'/></serial>
    <channel type='unix'>
      <source mode='bind' path='{channel_path(guest.name)}'/>
      <target type='virtio' name='io.buckler.lab'/>
    </channel>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def _disk_xml(guest: GuestPlan) -> str:
    if not guest.disk_mib:
        return ""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk_path(guest.name)}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def interface_xml(mac: str, bridge: str = BRIDGE) -> str:
    """Describe a network card on one of the lab's bridges; its boot ROM would only cost time."""
    return (
        f"<interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/><model type='virtio'/>"
        f"<mtu size='{MTU}'/><rom enabled='no'/></interface>"
    )


def _command_line(guest: GuestPlan) -> str:
    words = [
        "console=ttyS0",
        "quiet",
        "tsc=unstable",
        "no_timer_check",  # on a busy machine an emulated timer is late, and the kernel would take it for broken
        f"lab.name={guest.name}",
        f"lab.ipv4={guest.ipv4}/24",
        f"lab.ipv6={guest.ipv6}/64",
        f"lab.serve={','.join(SERVED)}",
    ]
    if guest.upstream:
        words.append(f"lab.upstream={guest.upstream}")
    if guest.vlan:
        words.append(f"lab.vlan={guest.vlan}")
    return " ".join(words)
