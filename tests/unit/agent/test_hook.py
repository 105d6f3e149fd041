"""The hook as libvirt runs it: a process of its own, with the system's bare Python."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from buckler.agent import hook
from buckler.agent.doorman import Answer, Doorman, Request
from buckler.agent.settings import AgentSettings, WithoutAgent, hook_settings_text

REFUSABLE = ["prepare", "start", "restore", "migrate"]
NEVER_REFUSED = ["reconnect", "started", "stopped", "release", "attach", ""]


class Hook:
    """A copy of the hook that reads its settings from a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.conf, self.socket, self.path = folder / "hook.conf", folder / "agent.sock", folder / "qemu"
        source = Path(hook.__file__).read_text()
        assert source.startswith("#!/usr/bin/python3 -IS\n")
        self.path.write_text(source.replace('"/etc/buckler/hook.conf"', repr(str(self.conf))))
        self.path.chmod(0o755)
        self.set()

    def set(self, deadline: float = 10.0, without_agent: WithoutAgent = WithoutAgent.CLOSED) -> None:
        settings = AgentSettings(socket=str(self.socket), hook_deadline=deadline, without_agent=without_agent)
        self.conf.write_text(hook_settings_text(settings))

    def run(self, operation: str, xml: str = "<domain/>") -> tuple[int, str, float]:
        began = time.monotonic()
        words = [str(self.path), "web-1", operation, "begin", "-"]
        done = subprocess.run(words, input=xml, capture_output=True, text=True, timeout=30)
        return done.returncode, done.stderr, time.monotonic() - began


@pytest.fixture
def libvirts(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


@pytest.fixture
def serve(libvirts: Hook) -> Iterator[Callable[[Callable[[Request], Answer]], None]]:
    doormen = []

    def start(answer: Callable[[Request], Answer]) -> None:
        doorman = Doorman(libvirts.socket, answer)
        doorman.start()
        doormen.append(doorman)

    yield start
    for doorman in doormen:
        doorman.stop()


@pytest.mark.parametrize("operation", REFUSABLE)
def test_a_refusal_reaches_the_administrator_in_words(libvirts: Hook, serve, operation: str):
    seen: list[Request] = []
    serve(lambda request: (seen.append(request), Answer(allowed=False, reason="it asks for vsock"))[1])
    code, words, _ = libvirts.run(operation, "<domain>ü</domain>")
    assert (code, words) == (1, "buckler: it asks for vsock\n")
    assert (seen[0].name, seen[0].operation, seen[0].step, seen[0].extra) == ("web-1", operation, "begin", "-")
    assert seen[0].xml == "<domain>ü</domain>"


@pytest.mark.parametrize("operation", NEVER_REFUSED)
def test_what_must_not_refuse_never_does_even_when_the_agent_says_no(libvirts: Hook, serve, operation: str):
    serve(lambda _request: Answer(allowed=False, reason="no"))
    assert libvirts.run(operation)[:2] == (0, "")


@pytest.mark.parametrize("operation", NEVER_REFUSED)
def test_what_must_not_refuse_never_does_without_an_agent(libvirts: Hook, operation: str):
    assert libvirts.run(operation)[:2] == (0, "")


@pytest.mark.parametrize("operation", REFUSABLE)
def test_without_an_agent_the_hosts_stated_default_answers(libvirts: Hook, operation: str):
    assert libvirts.run(operation)[0] == 1
    libvirts.set(without_agent=WithoutAgent.OPEN)
    assert libvirts.run(operation)[0] == 0
    libvirts.conf.unlink()
    assert libvirts.run(operation)[0] == 1


def test_an_allowance_is_silent(libvirts: Hook, serve):
    serve(lambda _request: Answer(allowed=True, reason="its tap stays closed"))
    assert libvirts.run("start")[:2] == (0, "")


def test_an_agent_that_hangs_is_left_at_the_deadline(libvirts: Hook, serve):
    libvirts.set(deadline=0.5)
    release = threading.Event()
    serve(lambda _request: (release.wait(20), Answer(allowed=True))[1])
    code, words, seconds = libvirts.run("start")
    release.set()
    assert code == 1
    assert "no answer" in words
    assert seconds < 2
    libvirts.set(deadline=0.3)
    assert libvirts.run("reconnect")[0] == 0


def test_an_agent_that_talks_nonsense_refuses(libvirts: Hook):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(libvirts.socket))
        listener.listen()

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"\x00\x00\x00\x04true")

        threading.Thread(target=babble, daemon=True).start()
        assert libvirts.run("start")[0] == 1
