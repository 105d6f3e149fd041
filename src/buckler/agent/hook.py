#!/usr/bin/python3 -IS
"""libvirt's qemu hook: hands its arguments and the domain's XML to the agent and returns the verdict.

Runs alone, with nothing but the standard library; never calls libvirt, which waits for it. Only prepare, start,
restore and migrate may refuse: a failing ``reconnect`` would make libvirt destroy running VMs.
"""

import json
import os
import signal
import socket
import struct
import sys
import time

SETTINGS = "/etc/buckler/hook.conf"
MAY_REFUSE = ("prepare", "start", "restore", "migrate")
MAX_XML = 4 * 1024 * 1024
MAX_ANSWER = 1024 * 1024


def read_settings(path: str) -> dict[str, str]:
    """Read ``name=value`` lines; whatever is missing or odd is the closed default."""
    settings = {"socket": "/run/buckler/agent.sock", "deadline": "10", "without_agent": "closed"}
    try:
        with open(path, encoding="utf-8") as lines:  # noqa: PTH123 - pathlib costs 10 ms of a hook's time
            for line in lines:
                name, found, value = line.strip().partition("=")
                if found and name in settings:
                    settings[name] = value
    except (OSError, ValueError):
        pass
    return settings


def read_deadline(text: str) -> float:
    """Seconds between a tenth and a minute; ten when it is no number."""
    try:
        return min(max(float(text), 0.1), 60.0)
    except ValueError:
        return 10.0


def receive(connection: socket.socket, count: int, end: float) -> bytes:
    """Read exactly ``count`` bytes before ``end``."""
    parts = []
    while count:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        part = connection.recv(min(count, 65536))
        if not part:
            raise OSError("the agent hung up")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def ask(path: str, arguments: list[str], xml: bytes, end: float) -> dict[str, object]:
    """Send one length-prefixed JSON request; return the agent's answer."""
    padded = [*arguments, "", "", "", ""][:4]
    request: dict[str, str | float] = dict(zip(("name", "operation", "step", "extra"), padded, strict=True))
    request["xml"] = xml.decode("utf-8", "replace")
    request["seconds"] = max(end - time.monotonic(), 0.0)
    body = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(end - time.monotonic(), 0.001))
        connection.connect(path)
        connection.sendall(struct.pack("!I", len(body)) + body)
        (length,) = struct.unpack("!I", receive(connection, 4, end))
        if length > MAX_ANSWER:
            raise OSError("the agent's answer is too long")
        answer = json.loads(receive(connection, length, end))
    if not isinstance(answer, dict) or not isinstance(answer.get("allowed"), bool):
        raise ValueError("the agent's answer cannot be read")
    return answer


def verdict(arguments: list[str]) -> tuple[int, str]:
    """Return (exit code, words)."""
    operation = arguments[1] if len(arguments) > 1 else ""
    settings = read_settings(SETTINGS)
    seconds = read_deadline(settings["deadline"])
    end = time.monotonic() + seconds

    def out_of_time(_signal: int, _frame: object) -> None:
        raise TimeoutError("the agent did not answer in time")

    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        xml = sys.stdin.buffer.read(MAX_XML + 1)
        answer = ask(settings["socket"], arguments, xml, end)
        allowed, words = answer["allowed"] is True, str(answer.get("reason", ""))
    except Exception as error:  # whatever went wrong, the host's stated default answers
        allowed = settings["without_agent"] == "open"
        words = f"no answer from the Buckler agent: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if operation not in MAY_REFUSE:
        return 0, ""
    return (0, "") if allowed else (1, words)


def main() -> None:
    """Never fail on an operation that must not refuse, whatever happens."""
    may_refuse = len(sys.argv) > 2 and sys.argv[2] in MAY_REFUSE
    try:
        code, words = verdict(sys.argv[1:])
    except BaseException as error:
        code, words = 1, f"the Buckler hook failed: {error!r}"
    if code and words:
        sys.stderr.write(f"buckler: {words}\n")
        sys.stderr.flush()
    os._exit(code if may_refuse else 0)


if __name__ == "__main__":
    main()
