"""What an administrator may set about a controller, read from YAML. Owns defaults and their checks, no state."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from buckler.model.operatorapi import SOCKET


class SettingsError(ValueError):
    """The configuration cannot be used; the message names file and field."""


class Settings(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """All of it. ``names`` are host names and addresses that agents reach this controller by (in its certificate).

    ``database`` is a URL (sqlite or postgresql); empty: SQLite in the state directory. Times are seconds.
    """

    pool: str = "pool"
    state_dir: str = "/var/lib/buckler/controller"
    database: str = ""
    socket: str = SOCKET
    listen_address: str = "0.0.0.0"  # noqa: S104 - agents come from the fabric; the token is their only way in
    listen_port: int = 7443
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    url: str = ""
    agent_lost_after: float = 15.0
    token_lifetime: float = 300.0
    flow_ring: int = 100_000
    certificate_days: int = 365

    def database_url(self) -> str:
        """Return where the store is."""
        return self.database or f"sqlite:///{self.state_dir}/pool.sqlite"

    def agent_url(self) -> str:
        """Return where agents join."""
        name = self.names[0] if self.names else self.listen_address
        return self.url or f"https://{f'[{name}]' if ':' in name else name}:{self.listen_port}"

    def addresses(self) -> tuple[str, ...]:
        """Return the addresses, as opposed to host names, at which agents reach controllers."""
        found = list[str]()
        for text in (*self.names, self.listen_address):
            with suppress(ValueError):
                found.append(str(ipaddress.ip_address(text)))
        with suppress(ValueError):
            found.append(str(ipaddress.ip_address(urlsplit(self.url).hostname or "")))
        return tuple(found)


def read_settings(path: Path | None, **overrides: Any) -> Settings:
    """Read ``path`` (absent: defaults), then lay the overrides that are not None over it. Raises SettingsError."""
    content: Any = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: not a mapping")
    given = {name.replace("_", "-"): value for name, value in overrides.items() if value is not None}
    try:
        return msgspec.convert({**content, **given}, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path or 'settings'}: {error}") from error
