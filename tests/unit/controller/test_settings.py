"""Which addresses a controller's settings name as its own: host names and what is no address are none."""

from __future__ import annotations

import pytest

from buckler.controller.settings import Settings


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        (Settings(names=("ctl.example.org", "192.0.2.7", "2001:DB8::7")), {"0.0.0.0", "192.0.2.7", "2001:db8::7"}),
        (Settings(names=(), listen_address="192.0.2.8"), {"192.0.2.8"}),
        (Settings(names=(), listen_address="::", url="https://[2001:db8::9]:7443"), {"::", "2001:db8::9"}),
        (Settings(names=(), listen_address="::", url="https://["), {"::"}),
    ],
)
def test_addresses_are_told_from_names(settings: Settings, addresses: set[str]) -> None:
    assert set(settings.addresses()) == addresses
