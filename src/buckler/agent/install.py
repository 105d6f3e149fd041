"""Puts the hook where libvirt looks for it, with the little file that it reads. Never restarts libvirt."""

from __future__ import annotations

import shutil
from pathlib import Path

from buckler.agent import hook
from buckler.agent.settings import HOOK_SETTINGS, AgentSettings, BadSettings, hook_settings_text

HOOK_PATH = Path("/etc/libvirt/hooks/qemu")
_MARK = "libvirt's qemu hook: hands its arguments"


def install_hook(settings: AgentSettings, path: Path = HOOK_PATH, conf: Path = HOOK_SETTINGS) -> bool:
    """Write both files if they differ; return whether the hook is new (libvirtd must then be restarted once).

    Raises BadSettings when somebody else's hook is in the way: ours goes beside it only by hand.
    """
    source = Path(hook.__file__)
    try:
        if path.exists() and _MARK not in path.read_text(errors="replace"):
            raise BadSettings(f"{path} is another hook: move it to {path}.d/ and start again")
        _write(conf, hook_settings_text(settings))
        is_new = not path.exists()
        if is_new or path.read_bytes() != source.read_bytes():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(".qemu.new")
            shutil.copyfile(source, draft)
            draft.chmod(0o755)
            draft.rename(path)
    except OSError as error:
        raise BadSettings(f"the hook cannot be installed: {error}") from error
    return is_new


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.rename(path)
