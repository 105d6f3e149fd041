"""The object loads on Linux 6.1 (no tcx: clsact filters) and passes its packet tests there."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckler.lab.guest.image import cache_folder
from tests.component.linux61 import boot, build_initramfs

TESTS = [
    "tests/component/test_connections.py",
    "-k",
    "'handshake or reset or revocation or quota or icmp or observe or dhcp'",
]


@pytest.mark.timeout(900)
def test_packet_tests_pass_on_linux_6_1(tmp_path: Path) -> None:
    kernel = cache_folder() / "kernel"
    assert any((kernel / "boot").glob("vmlinuz-6.1.*")), "the lab's kernel is not there: run `buckler lab up` once"
    console = boot(kernel, build_initramfs(kernel, tmp_path, TESTS), 800)
    assert "kernel 6.1." in console
    assert "exit 0" in console, console[-4000:]
    assert " passed" in console
