"""The filters that are measured: ours by our own drivers, others' as their tools write them. Owns no traffic.

Each protects the receiver: `rules` entries that never match, then the one that does. Senders stay unfiltered, unless said.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.net.world import RECEIVER, RECEIVER_MAC, SENDER_MAC, SENDERS, World
from pyroute2 import NFCTSocket
from tests.component.ground import APP, WEB, ZONE, Host, Vm, allow, both_ways, own_bpffs, run

from buckler.model.ids import IDENTITY_INFRA, IdentityNumber, VmNumber, Zone
from buckler.model.program import Direction
from buckler.model.shield import Address, AddressKey, GuardState

KNOWN_ADDRESSES = 100_000
EVENTS_PER_SECOND = 200
_OTHER = 0x30000000
_SENDER, _RECEIVER = Vm(10, APP), Vm(11, WEB)


def list_strangers(count: int) -> list[tuple[str, int]]:
    """Addresses and ports that no packet of the measurement has."""
    return [(f"10.{20 + k // 62500}.{k // 250 % 250}.{k % 250 + 1}", 1 + k % 60000) for k in range(count)]


def install_shield(world: World, entries: int, *, both: bool = False, guard: bool = False) -> Host:
    """Admit the receiver, with ``both`` the sender too, as the agent does: address book, program, tap."""
    stack = ExitStack()
    with world.host.entered():
        pins = stack.enter_context(own_bpffs(world.folder / "bpffs"))
        host = Host(pins, events_per_second=EVENTS_PER_SECOND)
        stack.callback(host.close)
        world.keep(stack)
        world.forget = host.shield.prune
        _fill_book(host)
        fillers = [
            allow(_OTHER + k % 5000, Direction(k & 1), 6, 1 + k // 5000 * 7 + k % 7, 32, rule=2)
            for k in range(max(0, entries - 4))
        ]
        opened = [entry for protocol in (6, 17) for entry in both_ways(APP, protocol, prefix=16)]
        program = host.put_program(*dict.fromkeys(fillers), *opened)
        receivers, senders = (world.tap_b.ifindex, world.veth_b), (world.tap_a.ifindex, world.veth_a)
        for ifindex in receivers:
            host.admit(ifindex, _RECEIVER, program, addresses=(RECEIVER,), mac=RECEIVER_MAC)
        if both:
            program = host.put_program(
                *(entry for protocol in (6, 17) for entry in both_ways(WEB, protocol, prefix=16))
            )
            for ifindex in senders:
                host.admit(
                    ifindex,
                    _SENDER,
                    program,
                    addresses=tuple(sorted(SENDERS)),
                    mac=SENDER_MAC,
                )
        if guard:
            ports = {
                (world.tap_a.ifindex, "br0"),
                (world.tap_b.ifindex, "br0"),
                (world.veth_a, "br1"),
                (world.veth_b, "br1"),
            }
            host.guard.apply(GuardState(frozenset({"br0", "br1"}), frozenset(ports)))
    return host


def _fill_book(host: Host) -> None:
    book = {AddressKey(ZONE, f"{a}/32"): Address(APP, _SENDER.number) for a in SENDERS}
    book[AddressKey(ZONE, f"{RECEIVER}/32")] = Address(WEB, _RECEIVER.number)
    for number, (address, _) in enumerate(list_strangers(KNOWN_ADDRESSES)):
        book[AddressKey(ZONE, f"{address}/32")] = Address(
            IdentityNumber(_OTHER + number % 5000), VmNumber(1000 + number)
        )
    for number in range(8):
        book[AddressKey(Zone(0), f"192.168.9.{number}/32")] = Address(IDENTITY_INFRA)
    book[AddressKey(Zone(0), "172.16.0.0/24")] = Address(IDENTITY_INFRA)
    book[AddressKey(Zone(0), "fd77::/64")] = Address(IDENTITY_INFRA)
    host.book.put_addresses(book)


def install_nft_linear(world: World, rules: int) -> None:
    """nftables in the bridge family, one rule after the other."""
    lines = "\n".join(f"ip saddr {address} tcp dport {port} accept" for address, port in list_strangers(rules))
    _load_nft(world, f"chain inbound {{\n{lines}\nether type arp accept\nip saddr 10.9.0.0/16 accept\n}}")


def install_nft_map(world: World, rules: int) -> None:
    """nftables in the bridge family, one verdict map."""
    elements = ", ".join(f"{address} . tcp . {port} : accept" for address, port in list_strangers(rules))
    _load_nft(
        world,
        f"map allowed {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {elements} }} }}\n"
        "chain inbound {\nip saddr . ip protocol . th dport vmap @allowed\nether type arp accept\nip saddr 10.9.0.0/16 accept\n}",
    )


def _load_nft(world: World, inner: str) -> None:
    chain = (
        "chain forwarded { type filter hook forward priority 0; policy drop\n"
        'iifname { "tapB", "vethB" } accept\noifname { "tapB", "vethB" } jump inbound\n}'
    )
    _feed(world, ["nft", "-f", "-"], f"table bridge measured {{\n{inner}\n{chain}\n}}\n")


def install_ebtables(world: World, rules: int) -> None:
    """ebtables, a chain for each tap, as libvirt's nwfilter writes it."""
    lines = [
        f"-A I-{tap} -p IPv4 --ip-src {address} --ip-proto tcp --ip-dport {port} -j ACCEPT"
        for tap in ("tapB", "vethB")
        for address, port in list_strangers(rules)
    ]
    ends = [
        f"-A I-{tap} {what}"
        for tap in ("tapB", "vethB")
        for what in ("-p IPv4 --ip-src 10.9.0.0/16 -j ACCEPT", "-p ARP -j ACCEPT", "-j DROP")
    ]
    text = [
        "*filter",
        ":INPUT ACCEPT",
        ":FORWARD ACCEPT",
        ":OUTPUT ACCEPT",
        *(f":I-{tap} RETURN" for tap in ("tapB", "vethB")),
        *(f"-A FORWARD -o {tap} -j I-{tap}" for tap in ("tapB", "vethB")),
        *lines,
        *ends,
    ]
    _feed(world, ["ebtables-restore"], "\n".join(text) + "\n")


def install_iptables(world: World, rules: int) -> None:
    """iptables with conntrack on bridged packets (br_netfilter, physdev), as nwfilter writes stateful rules."""
    with world.host.entered():
        run("modprobe -q br_netfilter || true; sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    state, taps = "-m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", ("tapB", "vethB")
    fillers = [f"-s {address} -p tcp --dport {port} {state}" for address, port in list_strangers(rules)]
    text = [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        *(f":F{way}-{tap} - [0:0]" for tap in taps for way in "IO"),
    ]
    for tap in taps:
        text += [
            f"-A FORWARD -m physdev --physdev-is-bridged --physdev-out {tap} -j FI-{tap}",
            f"-A FORWARD -m physdev --physdev-is-bridged --physdev-in {tap} -j FO-{tap}",
            *(f"-A FI-{tap} {filler}" for filler in fillers),
            f"-A FI-{tap} -s 10.9.0.0/16 {state}",
            f"-A FI-{tap} -j DROP",
            f"-A FO-{tap} {state}",
            f"-A FO-{tap} -j DROP",
        ]
    world.forget = partial(_flush, world)
    _feed(world, ["iptables-restore"], "\n".join([*text, "COMMIT"]) + "\n")


def _flush(world: World) -> None:
    with world.host.entered(), NFCTSocket() as conntrack:
        conntrack.flush()


def _feed(world: World, command: list[str], text: str) -> None:
    path: Path = world.folder / "rules"
    path.write_text(text)
    with world.host.entered(), path.open() as rules:
        done = subprocess.run(command, stdin=rules, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-300:] or done.stdout[-300:]}")
