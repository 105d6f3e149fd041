"""A whole VM copied to a second host: the copy is closed and reported, the VM lives on as if nothing had happened."""

import json

import pytest

from buckler.lab.host import CONNECTION
from buckler.lab.story.cast import differences, wait_until
from buckler.model.event import EventKind

VM = "app"


def admitted(cast, host):
    """Name the taps that the guard of a host lets through."""
    guard = json.loads(cast.centre.run_on(host, "nft", "-j", "list", "table", "bridge", "buckler"))["nftables"]
    ports = [
        port for one in guard if "set" in one and one["set"]["name"] == "ports" for port in one["set"].get("elem", [])
    ]
    names = {str(port["concat"][0] if isinstance(port, dict) else port) for port in ports}
    return {name for name in names if name.startswith(("tap", "vnet"))}


def virsh(cast, host, *words):
    return cast.centre.run_on(host, "virsh", "-q", "-c", CONNECTION, *words)


@pytest.mark.timeout(240)
def test_a_copy_of_a_running_vm_is_closed_and_reported_and_the_vm_is_not_disturbed(cast):
    before = cast.probed(cast.expected())
    place = cast.centre.host_of(VM)
    other = next(host.name for host in cast.centre.plan.hosts if host.name != place)
    standing = admitted(cast, other)
    rightful = admitted(cast, place)
    assert standing
    assert rightful

    xml = virsh(cast, place, "dumpxml", "--migratable", VM)
    copy = cast.centre.root(other) / "var/tmp/copy.xml"
    copy.write_text(xml.replace(f"<name>{VM}</name>", f"<name>{VM}-copy</name>", 1))
    assert f"<name>{VM}-copy</name>" in copy.read_text()
    virsh(cast, other, "create", "/var/tmp/copy.xml")
    try:
        assert admitted(cast, other) != standing, "nothing tells the copy from the VM at first: this is what is undone"
        wait_until("the copy is closed", lambda: told(cast, other) and admitted(cast, other) == standing, seconds=30)
        assert admitted(cast, place) == rightful
        with cast.operator() as client:
            assert client.vm(VM, "shop").host == place
    finally:
        virsh(cast, other, "destroy", f"{VM}-copy")
    wait_until("the shop works", lambda: not differences(before, cast.probed(before)), seconds=60)


def told(cast, host):
    """Say whether the operator and the ledger are told of the copy."""
    with cast.operator() as client:
        listed = [(rogue.host, rogue.name) for rogue in client.rogues() if rogue.twin_of == VM]
    return listed == [(host, f"{VM}-copy")] and any(
        entry.kind == EventKind.DOMAIN_ROGUE and entry.cause == "twin" and entry.detail["name"] == f"{VM}-copy"
        for entry in cast.ledger()
    )
