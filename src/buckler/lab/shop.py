"""Finds the documents of the example shop and reads from them which guests to make. Judges no policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from buckler.lab.machine import LabFailed
from buckler.lab.plan import ShopVm

FOLDER = Path(__file__).parents[3] / "examples/shop"


def shop_vms(folder: Path = FOLDER) -> tuple[ShopVm, ...]:
    """Return the VMs that the shop's documents name. Raises LabFailed."""
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise LabFailed(f"no documents in {folder}: the lab runs from a checkout")
    # All scalars stay text: YAML 1.1 takes a MAC without letters for a number.
    return tuple(
        _vm(document)
        for path in files
        for document in yaml.load_all(path.read_text(), Loader=yaml.BaseLoader)
        if document and document["kind"] == "VM"
    )


def _vm(document: dict[str, Any]) -> ShopVm:
    card = document["spec"]["interfaces"][0]
    return ShopVm(document["metadata"]["name"], document["spec"]["uuid"], card["mac"], tuple(card["addresses"]))
