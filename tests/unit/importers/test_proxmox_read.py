"""Files of Proxmox VE are read as narrowly as pve-firewall reads them, and what nobody knows denies."""

from __future__ import annotations

import pytest

from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.source import Source
from tests.unit.importers.imported import Imported
from tests.unit.importers.test_proxmox import GUESTS, carried


@pytest.mark.parametrize(
    "text",
    [
        "[ RULES ]\nIN ACCEPT",
        "[MOON]\nIN DROP",
        "[OPTIONS]\nips: 1",
        "[OPTIONS]\nlayer2_protocols: ARP",
        "[group x]\nIN DROP",
        " [RULES]\nIN ACCEPT",
        "[OPTIONS]\npolicy_in: ACCEPT # all",
        "[OPTIONS]\nenable:",
        "[OPTIONS]\nenable: 0 # off",
        "[IPSET a]\n10.1.0.11\n[IPSET a]\n0.0.0.0/0\n[RULES]\nIN ACCEPT -source +a",
        "[ALIASES]\na  10.1.0.11\n[RULES]\nIN ACCEPT -source a",
        "[RULES]\n|IN DROP\u2028IN ACCEPT",
    ],
)
def test_a_guests_file_is_read_as_narrowly_as_pve_firewall_reads_it(text):
    files = {"cluster.fw": "[OPTIONS]\nenable: 1", "100.fw": f"[OPTIONS]\nenable: 1\n{text}\n", "101.fw": ""}
    for number in ("100", "101"):
        files[f"{number}.conf"] = f"net0: virtio=52:54:00:00:00:{number[1:]},bridge=b,firewall=1,ip={GUESTS[number]}/24"
    imported = Imported(import_proxmox([Source(*each) for each in files.items()], "2030-01-01"))
    assert ("default/101", "default/100") not in imported.talks
    assert "default/100" not in imported.inward


@pytest.mark.parametrize(
    "twice", ["[group web]\nIN ACCEPT\n[group web]\nIN DROP", "[group web]\nIN DROP\n[group web]\nIN ACCEPT"]
)
def test_a_group_that_is_given_twice_denies(twice):
    _result, imported = carried("GROUP web\nIN ACCEPT", cluster=twice)
    assert ("default/101", "default/100") not in imported.talks


def test_a_cluster_file_with_a_section_nobody_knows_closes_all():
    result, imported = carried("IN ACCEPT", cluster="[RULEZ]\nIN DROP")
    assert not result.is_exact
    assert not imported.talks
    assert not imported.inward


@pytest.mark.parametrize(
    ("names", "is_open"),
    [
        (("firewall/cluster.fw", "qemu-server/100.conf"), True),
        (("pve/firewall/cluster.fw", "pve/nodes/one/lxc/100.conf"), True),
        (("cluster.fw", "100.conf"), False),
        (("firewall/cluster.fw", "100.conf"), False),
        (("cluster.fw", "qemu-server/100.conf"), False),
    ],
)
def test_a_guest_without_its_file_is_open_only_in_a_copy_of_the_whole_folder(names, is_open):
    """pve-firewall makes no chain for a guest that has no VMID.fw; whether it has none only a whole copy says."""
    texts = ("[OPTIONS]\nenable: 1", "net0: virtio=52:54:00:00:00:01,bridge=b,firewall=1")
    result = import_proxmox([Source(*each) for each in zip(names, texts, strict=True)], "2030-01-01")
    assert bool(Imported(result).inward) is is_open
    assert result.is_exact is is_open


@pytest.mark.parametrize("word", ["1", "yes", "on", "TRUE", "2", "", "1,firewall=0"])
def test_an_interface_is_filtered_unless_it_says_no(word):
    card = f"net0: virtio=52:54:00:00:00:01,bridge=b,firewall={word}"
    files = {"cluster.fw": "[OPTIONS]\nenable: 1", "100.fw": "[OPTIONS]\nenable: 1", "100.conf": card}
    imported = Imported(import_proxmox([Source(*each) for each in files.items()], "2030-01-01"))
    assert not imported.inward


@pytest.mark.parametrize("first", ["net0: virtio=52:54:00:00:00:01,bridge=b,firewall=1\n", ""])
def test_an_interface_given_twice_is_filtered_if_either_says_so(first):
    card = f"{first}net0: virtio=52:54:00:00:00:01,bridge=b\n"
    files = {"cluster.fw": "[OPTIONS]\nenable: 1", "100.fw": "[OPTIONS]\nenable: 1", "100.conf": card}
    imported = Imported(import_proxmox([Source(*each) for each in files.items()], "2030-01-01"))
    assert bool(imported.inward) is not first.startswith("net0")


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("IN ACCEPT -source 10.1.0.5/24", ""),
        ("IN ACCEPT -source 10.1.0.0/0.0.0.255", ""),
        ("IN DROP -source +odd\nIN ACCEPT", "[IPSET odd]\n10.1.0.0/24\n!!10.1.0.11"),
        ("IN DROP -source +odd\nIN ACCEPT", "[IPSET odd]\n10.1.0.11/24"),
    ],
)
def test_addresses_that_pve_firewall_does_not_take_allow_nothing(line, more):
    _result, imported = carried(line, cluster=more)
    assert ("default/101", "default/100") not in imported.talks
