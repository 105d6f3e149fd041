"""Spoilt input gives losses or a refusal, never a crash and never a file that our own checks do not take."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from buckler.policy.importers.kubernetes.cluster import import_kubernetes
from buckler.policy.importers.neutron.cloud import import_neutron
from buckler.policy.importers.nsx.firewall import import_nsx
from buckler.policy.importers.nwfilter.host import import_nwfilter
from buckler.policy.importers.outcome import Import
from buckler.policy.importers.proxmox.pool import import_proxmox
from buckler.policy.importers.written import import_files
from buckler.policy.source import Source
from tests.randompolicy import Chooser, Seeded, pick
from tests.unit.importers import kubeworld, test_neutron, test_nsx, test_nwfilter, test_proxmox

pytestmark = pytest.mark.proof

ODD: tuple[Any, ...] = (
    None,
    "",
    "x" * 300,
    "a\x07b",
    0,
    -1,
    10**12,
    True,
    [],
    {},
    [None],
    [[]],
    {"": None},
    "::1",
    "1.2.3.4/99",
    "Ünïcode/…",
    "0",
    {"a": "b"},
    "²",
    "9" * 5000,
)
LETTERS = ("<", ">", "'", "[", "]", "|", "+", "!", "-", "\n", "", "999999", "\x00", "é", " ", "²", "9" * 5000)
REVIEW = "2030-01-01"


def spoil(choose: Chooser, tree: Any) -> Any:
    """Replace, remove or double one value somewhere."""
    tree = copy.deepcopy(tree)
    here = tree
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return tree
        key = pick(choose, keys)
        inner = here[key]
        if isinstance(inner, dict | list) and inner and choose.number(0, 5):
            here = inner
            continue
        kind = choose.number(0, 4)
        if kind == 0:
            del here[key]
        elif kind == 1 and isinstance(here, dict):
            here[f"{key}Odd"] = inner
        elif kind == 2 and isinstance(here, list):
            here.append(copy.deepcopy(inner))
        else:
            here[key] = copy.deepcopy(pick(choose, ODD))
        return tree


def scratch(choose: Chooser, text: str) -> str:
    """Change some letters of a text."""
    for _ in range(choose.number(1, 4)):
        place = choose.number(0, len(text))
        text = text[:place] + pick(choose, LETTERS) + text[place + choose.number(0, 3) :]
    return text


def kubernetes(choose: Chooser) -> Import:
    sources, *_rest = kubeworld.cluster(choose)
    objects = [each for source in sources for each in yaml.safe_load_all(source.text) if each]
    tree: Any = [one for each in objects for one in (each["items"] if each["kind"] == "List" else [each])]
    for _ in range(choose.number(1, 4)):
        tree = spoil(choose, tree)
    return import_kubernetes([Source("in.json", json.dumps({"kind": "List", "items": tree}))], REVIEW)


def neutron(choose: Chooser) -> Import:
    tree: Any = test_neutron.world(choose, dual=bool(choose.number(0, 1)))
    for _ in range(choose.number(1, 4)):
        tree = spoil(choose, tree)
    return import_neutron([Source("in.json", json.dumps(tree))], REVIEW)


def nsx(choose: Chooser) -> Import:
    tree: Any = test_nsx.world(choose)[1]
    for _ in range(choose.number(1, 4)):
        tree = spoil(choose, tree)
    return import_nsx([Source("in.json", json.dumps(tree))], REVIEW)


def proxmox(choose: Chooser) -> Import:
    sources, _truth = test_proxmox.world(choose)
    return import_proxmox([Source(each.name, scratch(choose, each.text)) for each in sources], REVIEW)


def nwfilter(choose: Chooser) -> Import:
    rules = [test_nwfilter.rule(choose) for _ in range(3)]
    texts = [
        test_nwfilter.xml(rules, "f"),
        test_nwfilter.domain("one", "f", "10.0.0.1"),
        test_nwfilter.domain("two", "f", None),
    ]
    spoilt = [scratch(choose, each) if choose.number(0, 1) else each for each in texts]
    return import_nwfilter([Source(f"{index}.xml", each) for index, each in enumerate(spoilt)], REVIEW)


@pytest.mark.parametrize("importer", [kubernetes, neutron, nsx, proxmox, nwfilter])
def test_spoilt_input_never_crashes(importer: Callable[[Chooser], Import]):
    read = 0
    for seed in range(60):
        result = importer(Seeded(seed))
        try:
            import_files(result)
        except ValueError as error:  # names or hardware that nobody can have: the command refuses, and says where
            if " line " not in str(error):
                raise
        else:
            read += not result.unreadable
    assert read > 5
