"""Grounds for packet tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.ground import Host, add_bridge, own_bpffs, own_network


@pytest.fixture(params=["tcx", "clsact"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """A host with a bridge br0, its shield open and empty, in a network of its own."""
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        made = Host(pins, tcx=None if request.param == "tcx" else False)
        yield made
        made.close()


@pytest.fixture
def tcx_host(tmp_path: Path) -> Iterator[Host]:
    """The same, attached as the kernel likes best."""
    with own_network(), own_bpffs(tmp_path / "bpffs") as pins:
        add_bridge()
        made = Host(pins)
        yield made
        made.close()
