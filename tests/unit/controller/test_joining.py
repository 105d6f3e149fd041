"""What a host that joins may say of itself: whoever stole a join token says anything."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.controller.agents.joining import check_join
from buckler.model.agentapi import JoinRequest
from buckler.trust.statement import key_text

KEY = key_text(Ed25519PrivateKey.generate().public_key())


def problems(name: str = "h1", fabric: str = "192.0.2.1", address: str = "", uri: str = "") -> str:
    return "; ".join(check_join(JoinRequest("token", name, KEY, fabric, (address,) if address else (), uri)))


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "qemu+tcp://192.0.2.2/system",
        "qemu+tls://h2.example/system",
        "qemu+tls://[fd00::2]:16514/system",
        "qemu+ssh://root@h2/system",
    ],
)
def test_ways_to_another_libvirt_are_taken(uri: str) -> None:
    assert not problems(uri=uri)


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ext:///system?command=/usr/bin/reboot",
        "qemu+ssh://h2/system?command=/tmp/evil",
        "qemu+ssh://-oProxyCommand=evil/system",
        "qemu+tls://h2/system?no_verify=1",
        "qemu+unix:///system?socket=/tmp/mine",
        "qemu+tls://h2/session",
        "test:///default",
        "qemu+tls://h2/system\n",
        "qemu+tls://h\u0435st/system",
    ],
)
def test_what_would_run_programs_on_other_hosts_is_refused(uri: str) -> None:
    assert "migrate_uri" in problems(uri=uri)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:10.0.0.1", "fe80::1%eth0", "1"]
)
def test_addresses_that_no_host_has_are_refused(address: str) -> None:
    assert "addresses" in problems(address=address)
    assert "fabric" in problems(fabric=address)


def test_a_host_that_is_a_pool_by_itself_may_be_reached_by_its_loopback() -> None:
    assert not problems(fabric="127.0.0.1")


def test_a_name_is_no_other_hosts_id() -> None:
    assert "id" in problems(name="0198c5a0-0000-7000-8000-000000000001")
    assert "name" in problems(name="h\u0430st")
