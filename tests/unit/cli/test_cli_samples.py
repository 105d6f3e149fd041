"""Samples as rates for people; totals stay totals."""

from __future__ import annotations

import click
import pytest
from msgspec.structs import replace

from buckler.cli.output import plain_table
from buckler.cli.sample import load_table, parse_since, samples_table, size
from buckler.model.operatorapi.traffic import SampleItem, VmLoad

FIRST = SampleItem(
    at=1_800_000_000.0, host="h1", memory=200 << 20, cpu_seconds=100.0, read_bytes=0, read_requests=0, written_bytes=4096,
    write_requests=1, sent_packets=1000, sent_bytes=100_000, received_packets=50, received_bytes=5000, refused_packets=7,
)  # fmt: skip
LATER = replace(
    FIRST, at=FIRST.at + 10, host="h2", cpu_seconds=105.0, sent_packets=1200, sent_bytes=120_480, refused_packets=27
)


def test_a_row_is_what_went_on_a_second_since_the_sample_before() -> None:
    (row,) = samples_table((FIRST, LATER)).rows
    assert row[:4] == ("2027-01-15 08:00:10Z", "h2", "50%", "200M")
    assert row[6:9] == ("20/s 2.0K/s", "0/s 0B/s", "2/s")
    assert row[9:] == ("105.0", "1200", "50", "27")


def test_one_sample_alone_has_no_rates() -> None:
    assert samples_table((FIRST,)).rows == ()


def test_the_busiest_come_first_and_those_without_samples_last() -> None:
    idle = VmLoad("idle", "shop", LATER, replace(FIRST, cpu_seconds=104.9))
    busy = VmLoad("busy", "shop", LATER, FIRST)
    table = load_table((VmLoad("never", "shop"), idle, busy))
    assert [row[1] for row in table.rows] == ["busy", "idle", "never"]
    assert plain_table(table).splitlines()[3].split()[2] == "-"


def test_bytes_are_short() -> None:
    assert [size(value) for value in (0, 999, 1024, 15_000, 3 << 20, 5 << 40)] == [
        "0B",
        "999B",
        "1.0K",
        "15K",
        "3.0M",
        "5.0T",
    ]


def test_since_is_ago_or_a_time() -> None:
    assert parse_since("30s", 1000.0) == 970.0
    assert parse_since("2h", 10_000.0) == 2800.0
    assert parse_since("9d", 100.0) == 0.0
    assert parse_since("1800000000", 0.0) == 1_800_000_000.0
    for text in ("", "ten", "5y", "-3m", "nan", "1e99"):
        with pytest.raises(click.UsageError):
            parse_since(text, 0.0)
