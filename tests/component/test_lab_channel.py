"""The lab's command channel over a line that loses bytes whenever an end closes: nothing is run twice or taken for whole."""

import contextlib
import os
import random
import selectors
import socket
import subprocess
import threading
import time
import tty
import zlib
from pathlib import Path

import pytest

import buckler.lab.guest
from buckler.lab.channel import Answer, ChannelBroken, execute, find_answer, new_identity, request_line

SOURCES = Path(buckler.lab.guest.__file__).parent / "probe"
SEED = 20361231


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    target = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", "-O1", "-o", target, *sorted(SOURCES.glob("*.c"))], check=True)
    return target


@pytest.fixture
def line(probe):
    """The host's end of a terminal at which the real agent listens."""
    ours, theirs = os.openpty()
    tty.setraw(ours), tty.setraw(theirs)
    os.set_blocking(ours, False)
    agent = subprocess.Popen([probe, "agent", os.ttyname(theirs)])
    yield ours
    agent.kill()
    agent.wait()
    os.close(ours), os.close(theirs)


class Port:
    """Serves one connection after the other between a socket and the line, and breaks some of them on purpose."""

    def __init__(self, path, line, dice):
        self.line, self.dice, self.broken = line, dice, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                budget = self.dice.randrange(1, 900) if self.dice.random() < 0.5 else 1 << 30
                with client, contextlib.suppress(OSError):
                    self._carry(client, budget)

    def _carry(self, client, budget):
        with selectors.DefaultSelector() as waiting:
            waiting.register(client, selectors.EVENT_READ)
            waiting.register(self.line, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    came = os.read(key.fd, 4096)
                    if not came:
                        return
                    kept, budget = came[:budget], budget - len(came)
                    _write(self.line if key.fd != self.line else client.fileno(), kept)
                    if budget <= 0:
                        self.broken += 1
                        return  # the rest of what came is lost

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def _write(descriptor, content):
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except BlockingIOError:
            time.sleep(0.005)


def test_over_a_line_that_breaks_every_command_runs_once_and_is_answered_whole(line, tmp_path):
    port = Port(tmp_path / "port", line, random.Random(SEED))
    dice = random.Random(SEED + 1)
    ran = tmp_path / "ran"
    try:
        for number in range(60):
            filling = "x" * dice.choice((0, 50, 700))
            command = f"echo {number} >>{ran}; echo answer {number} {filling}; exit {number % 3}"
            assert _persist(tmp_path / "port", command) == Answer(
                f"answer {number} {filling}".rstrip() + "\n", number % 3
            )
    finally:
        port.close()
    assert ran.read_text().split() == [str(number) for number in range(60)]
    assert port.broken > 20, "the line did break"


def _persist(path, command):
    identity = new_identity()
    for _ in range(60):
        with contextlib.suppress(ChannelBroken):
            return execute(path, command, seconds=10, identity=identity)
    raise AssertionError(command)


def _ask(line, bytes_, identity, seconds=20):
    _write(line, bytes_)
    received, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            received += os.read(line, 65536)
        if (found := find_answer(received, identity)) is not None:
            return found
        time.sleep(0.01)
    return None


def test_half_a_request_costs_nothing_but_itself_wherever_it_was_cut(line):
    whole = request_line("whole", b"echo yes", 5)
    for cut in range(len(whole) - 1):
        identity = f"next{cut}"
        half = request_line("half", b"echo no", 5)[:cut]
        assert _ask(line, half + request_line(identity, b"echo yes", 5), identity) == Answer("yes\n", 0), cut


@pytest.mark.parametrize("damage", [b"zz", b"0", b"00"])
def test_a_damaged_request_is_never_run(line, tmp_path, damage):
    mark = tmp_path / "mark"
    damaged = request_line("damaged", f"touch {mark}".encode(), 5)[:-1] + damage + b"\n"
    assert _ask(line, damaged + request_line("after", b"echo yes", 5), "after") == Answer("yes\n", 0)
    assert not mark.exists()


def test_a_command_beyond_its_time_is_stopped_and_the_next_one_is_answered(line):
    assert _ask(line, request_line("long", b"echo begun; sleep 60", 1), "long") == Answer("begun\n", 124)
    assert _ask(line, request_line("closed", b"exec >&- 2>&-; sleep 0.2; exit 5", 9), "closed") == Answer("", 5)
    assert _ask(line, request_line("left", b"sleep 60 & echo done", 9), "left") == Answer("done\n", 0)


def test_parts_of_answers_are_no_answer():
    body = b"all\n"
    answer = b"DONE me 0 %08x %d\n" % (zlib.crc32(body), len(body)) + body
    assert find_answer(answer, "me") == Answer("all\n", 0)
    for cut in range(len(answer)):
        assert find_answer(answer[:cut], "me") is None
        assert find_answer(answer[:cut] + answer, "me") == Answer("all\n", 0)
    assert find_answer(answer, "you") is None
