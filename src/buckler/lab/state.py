"""What a running lab writes down, so that the next command finds it. The kernel, not this file, says what is alive."""

from __future__ import annotations

from pathlib import Path

import msgspec

from buckler.lab.plan import LabPlan


class LabState(msgspec.Struct, frozen=True):
    """The plan and the pid of the first process of each machine, by name."""

    plan: LabPlan
    pids: dict[str, int] = {}
    made_netns_folder: bool = False


def read_state(folder: Path) -> LabState | None:
    """Return the state of the lab in ``folder``, None when there is none or it cannot be understood."""
    try:
        return msgspec.json.decode((folder / "state.json").read_bytes(), type=LabState, dec_hook=_decode)
    except (OSError, msgspec.DecodeError):
        return None


def write_state(state: LabState) -> None:
    """Keep the state, in one step."""
    folder = state.plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / "state.json.new"
    aside.write_bytes(msgspec.json.format(msgspec.json.encode(state, enc_hook=str)))
    aside.rename(folder / "state.json")


def _decode(kind: type, value: object) -> object:
    return kind(value)
