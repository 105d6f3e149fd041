"""The numbers and layouts that C and Python share: Python's are checked against abi.h and against the object's BTF."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest

from buckler.drivers.ebpf import layout
from buckler.drivers.ebpf.kernel import DEFAULT_OBJECT
from buckler.drivers.ebpf.reasons import FIRST_HARD, SENTENCES, Reason
from buckler.model import ids
from buckler.model.program import Direction, Verdict
from buckler.model.shield import AddressFlag, PortRole
from buckler.ports.claims import ClaimSource
from buckler.ports.telemetry import FIRST_REFUSAL

ABI = Path(__file__).parents[2] / "bpf" / "abi.h"


@pytest.fixture(scope="module")
def numbers() -> dict[str, int]:
    text = re.sub(r"/\*.*?\*/", "", ABI.read_text(), flags=re.S)
    found = {name: int(value, 0) for name, value in re.findall(r"^#define (\w+) (0x[0-9a-f]+|\d+)\s*$", text, re.M)}
    return found | {name: int(value, 0) for name, value in re.findall(r"\b([A-Z][A-Z0-9_]+) = (\d+)", text)}


@pytest.mark.parametrize(("prefix", "enum"), [
    ("DIR_", Direction), ("ACT_", Verdict), ("PORT_", PortRole), ("ADDR_", AddressFlag), ("CLAIM_", ClaimSource),
])  # fmt: skip
def test_enums_are_those_of_abi_h(numbers: dict[str, int], prefix: str, enum: type[IntEnum]) -> None:
    assert {prefix + member.name: member.value for member in enum} == {
        name: value for name, value in numbers.items() if name.startswith(prefix)
    }


def test_reasons_are_those_of_abi_h_each_with_a_sentence(numbers: dict[str, int]) -> None:
    marks = {
        "REASON_FIRST_REFUSAL": FIRST_REFUSAL,
        "REASON_FIRST_HARD": FIRST_HARD,
        "REASON_COUNT": layout.REASON_COUNT,
    }
    ours = {"REASON_" + reason.name: reason.value for reason in Reason} | marks
    assert ours == {name: value for name, value in numbers.items() if name.startswith("REASON_")}
    assert set(SENTENCES) == set(Reason)


def test_constants_are_those_of_abi_h(numbers: dict[str, int]) -> None:
    for name in (
        "MARK_JUDGED",
        "MAX_TAPS",
        "MAX_SERVICES",
        "MOST_MEMBERS",
        "MOST_PORTS",
        "CONNECTIONS_HALF_OPEN",
        "HALF_OPEN_SETS",
        "HALF_OPEN_WAYS",
        "TAG_TAKEN",
        "FRAGMENTS_PER_TAP",
        "NOBODY",
    ):
        assert getattr(layout, name) == numbers[name], name
    for name in ("ANY", "HOST", "WORLD", "GROUP", "INFRA"):
        assert getattr(ids, "IDENTITY_" + name) == numbers["IDENTITY_" + name]


@pytest.fixture(scope="module")
def btf() -> dict[int, dict[str, Any]]:
    dump = subprocess.run(["bpftool", "btf", "dump", "file", DEFAULT_OBJECT, "-j"], capture_output=True, check=True)
    return {item["id"]: item for item in json.loads(dump.stdout)["types"]}


def resolve(btf: dict[int, dict[str, Any]], number: int) -> dict[str, Any]:
    item = btf[number]
    return resolve(btf, item["type_id"]) if item["kind"] in ("TYPEDEF", "CONST", "VOLATILE") else item


def fields(btf: dict[int, dict[str, Any]], number: int, at: int) -> list[tuple[int, int]]:
    """(offset, size) of every scalar; a run of bytes and an address are one."""
    item = resolve(btf, number)
    if item["kind"] == "STRUCT":
        if item["name"] == "address":
            return [(at, 16)]
        return [
            field
            for member in item["members"]
            if not member["name"].startswith("reserved")
            for field in fields(btf, member["type_id"], at + member["bits_offset"] // 8)
        ]
    if item["kind"] == "ARRAY":
        size = sum_size(btf, item["type_id"])
        if size == 1:
            return [(at, item["nr_elems"])]
        return [field for i in range(item["nr_elems"]) for field in fields(btf, item["type_id"], at + i * size)]
    return [(at, item["size"])]


def sum_size(btf: dict[int, dict[str, Any]], number: int) -> int:
    item = resolve(btf, number)
    return sum_size(btf, item["type_id"]) * item["nr_elems"] if item["kind"] == "ARRAY" else item["size"]


def format_fields(text: str) -> list[tuple[int, int]]:
    found, prefix = [], "<"
    for count, code in re.findall(r"(\d*)([a-zA-Z])", text):
        for part in [count + code] if code in "sx" else [code] * int(count or 1):
            if code != "x":
                found.append((struct.calcsize(prefix), struct.calcsize("<" + part)))
            prefix += part
    return found


@pytest.mark.parametrize("name", sorted(layout.FORMATS))
def test_layout_is_that_of_the_object(btf: dict[int, dict[str, Any]], name: str) -> None:
    (number,) = [item["id"] for item in btf.values() if item["kind"] == "STRUCT" and item["name"] == name]
    layout_format = layout.FORMATS[name]
    assert layout_format.size == btf[number]["size"]
    assert format_fields(layout_format.format) == fields(btf, number, 0)


def test_a_wrong_layout_would_be_noticed() -> None:
    assert format_fields("<IHB") != format_fields("<IBH")


def test_counts_per_reason_fill_their_element(btf: dict[int, dict[str, Any]]) -> None:
    (size,) = [item["size"] for item in btf.values() if item["kind"] == "STRUCT" and item["name"] == "reason_counts"]
    assert size == layout.REASON_COUNTS_SIZE
