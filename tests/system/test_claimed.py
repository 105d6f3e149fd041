"""An address that a guest found for itself by duplicate address detection goes where its VM goes."""

import pytest

from buckler.lab.pool import shop_files
from buckler.lab.story.cast import TENANT, wait_until
from buckler.model.operatorapi.documents import ApplyRequest, SourceFile

VM, CLAIMED, UNWANTED = "web1", "fd50::77", "fd50::13"


def sources(cast):
    with cast.operator() as client:
        return client.vm(VM, TENANT).interfaces[0].sources


def answers(cast, address):
    return cast.centre.attempt_outside("get", f"tcp/{address}/80").returncode == 0


def take(cast, address):
    """Have the guest ask the network whether the address is free, as every guest does that is not told otherwise."""
    ask = "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad"
    assert cast.centre.execute(VM, f"{ask} && ip -6 addr add {address}/64 dev eth0").code == 0


@pytest.mark.timeout(240)
def test_a_detected_address_serves_on_both_hosts_and_anothers_is_never_had(cast):
    assert not answers(cast, CLAIMED)
    allow_claims(cast)
    take(cast, CLAIMED)
    wait_until("the address is granted", lambda: sources(cast).get(CLAIMED) == "detected")
    take(cast, UNWANTED)
    wait_until("it serves", lambda: answers(cast, CLAIMED))

    home = cast.centre.host_of(VM)
    away = next(host.name for host in cast.centre.plan.hosts if host.name != home)
    for place in (away, home):
        cast.centre.migrate(VM, place)
        wait_until(f"it serves on {place}", lambda: answers(cast, CLAIMED))
    assert UNWANTED not in sources(cast)


def allow_claims(cast):
    network = next(file for file in shop_files() if "kind: Network" in file.text)
    assert "addressClaims" not in network.text
    changed = network.text.replace("  bridge: ", "  addressClaims: {limit: 2}\n  bridge: ", 1)
    with cast.operator() as client:
        client.apply(ApplyRequest(files=(SourceFile(network.name, changed),), wait=20))
    cast.pool.wait_for_hosts()
