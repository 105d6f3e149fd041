"""Run inside a namespace: send first packets, and say which were answered, be it by a refusal. Reads and prints JSON."""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
import time

WAIT = 1.0
ECHO = {"ICMP": (socket.IPPROTO_ICMP, 8), "ICMPv6": (socket.IPPROTO_ICMPV6, 128)}


def main() -> None:
    asked = json.load(sys.stdin)
    waiting = {}
    answered = [False] * len(asked["questions"])
    for index, (own, target, protocol, port) in enumerate(asked["questions"]):
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        if protocol in ECHO:
            waiting[_echo(family, own, target, protocol, asked["first_port"] + index)] = (index, protocol)
            continue
        kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
        one = socket.socket(family, kind)
        one.setblocking(False)
        one.bind((own, asked["first_port"] + index))
        try:
            one.connect((target, port))
            if kind == socket.SOCK_DGRAM:
                one.send(b"?")
        except BlockingIOError:
            pass
        except OSError as error:
            answered[index] = error.errno == errno.ECONNREFUSED
            continue
        waiting[one] = (index, protocol)
    end = time.monotonic() + WAIT
    while waiting and time.monotonic() < end:
        readable, writable, failed = select.select(
            list(waiting), [one for one, (_index, kind) in waiting.items() if kind == "TCP"], list(waiting), 0.1
        )
        for one in {*readable, *writable, *failed}:
            index, protocol = waiting[one]
            if protocol in ECHO:
                if not _is_reply(one.recv(2048), protocol, asked["first_port"] + index):
                    continue
                answered[index] = True
            else:
                answered[index] = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in {0, errno.ECONNREFUSED}
            del waiting[one]
            one.close()
    sys.stdout.write(json.dumps(answered))


def _echo(family: int, own: str, target: str, protocol: str, mark: int) -> socket.socket:
    number, kind = ECHO[protocol]
    one = socket.socket(family, socket.SOCK_RAW, number)
    one.setblocking(False)
    one.bind((own, 0))
    head = struct.pack("!BBHHH", kind, 0, 0, mark, 1)
    if protocol == "ICMP":
        total = sum(struct.unpack("!4H", head))
        head = struct.pack("!BBHHH", kind, 0, ~(total + (total >> 16)) & 0xFFFF, mark, 1)
    one.sendto(head, (target, 0))
    return one


def _is_reply(data: bytes, protocol: str, mark: int) -> bool:
    body = data[(data[0] & 15) * 4 :] if protocol == "ICMP" else data
    kind, _code, _sum, own, _sequence = struct.unpack("!BBHHH", body[:8])
    return bool(kind == {"ICMP": 0, "ICMPv6": 129}[protocol] and own == mark)


main()
