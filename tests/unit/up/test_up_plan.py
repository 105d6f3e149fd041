from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from buckler.up.command import next_lines
from buckler.up.machine import HOOK_MARK, HOOK_SOURCE, _is_bpffs, kernel_version
from buckler.up.plan import Facts, Hook, Step, plan, refuse

FRESH = Facts(
    is_root=True, kernel=(6, 1), has_libvirt=True, has_bpffs=True, has_controller_settings=False,
    has_agent_settings=False, hook=Hook.ABSENT, is_member=False, controller_answers=False, agent_answers=False,
)  # fmt: skip
DONE = replace(
    FRESH, has_controller_settings=True, has_agent_settings=True, hook=Hook.OURS, is_member=True,
    controller_answers=True, agent_answers=True,
)  # fmt: skip


def test_a_fresh_host_gets_every_step_in_order() -> None:
    assert refuse(FRESH) == ()
    assert plan(FRESH) == tuple(Step)


def test_where_all_is_done_nothing_is_done() -> None:
    assert refuse(DONE) == ()
    assert plan(DONE) == ()


def test_after_a_reboot_only_the_two_are_started() -> None:
    rebooted = replace(DONE, controller_answers=False, agent_answers=False)
    assert plan(rebooted) == (Step.START_CONTROLLER, Step.START_AGENT)


def test_an_old_hook_of_ours_is_renewed() -> None:
    assert plan(replace(DONE, hook=Hook.OUTDATED)) == (Step.INSTALL_HOOK,)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"is_root": False}, "root"),
        ({"kernel": (5, 10)}, "Linux 5.10"),
        ({"has_libvirt": False}, "libvirt"),
        ({"has_bpffs": False}, "/sys/fs/bpf"),
        ({"hook": Hook.FOREIGN}, "another qemu hook"),
        ({"pool_elsewhere": "https://c1:7443"}, "https://c1:7443"),
    ],
)
def test_what_stands_in_the_way_is_told_with_a_hint(change: dict[str, object], word: str) -> None:
    (found,) = refuse(replace(FRESH, **change))
    assert word in found.reason
    assert found.hint


def test_everything_that_stands_in_the_way_is_told_at_once() -> None:
    assert len(refuse(replace(FRESH, is_root=False, has_libvirt=False, has_bpffs=False))) == 3


def test_our_hook_is_known_by_its_words() -> None:
    assert HOOK_MARK in HOOK_SOURCE.read_bytes()


def test_libvirt_must_be_told_of_a_new_hook_once() -> None:
    assert any("restart libvirtd" in line for line in next_lines(FRESH))
    assert not any("restart libvirtd" in line for line in next_lines(DONE))


def test_what_is_no_kernel_version_is_older_than_everything() -> None:
    assert kernel_version("6.1.0-18-amd64") == (6, 1)
    assert kernel_version("strange") == (0, 0)


def test_only_a_bpf_file_system_is_one() -> None:
    assert _is_bpffs("bpf /sys/fs/bpf bpf rw 0 0\n", Path("/sys/fs/bpf"))
    assert not _is_bpffs("tmpfs /sys/fs/bpf tmpfs rw 0 0\nbpf /elsewhere bpf rw 0 0\n", Path("/sys/fs/bpf"))
