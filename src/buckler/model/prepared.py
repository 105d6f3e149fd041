"""Forms of all structs worked out before any thread decodes one: two threads that do it first at once crash the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import msgspec


def prepare_structs() -> int:
    """Work out every struct that is imported; say how many. Call it before threads begin."""
    count = 0
    for each in _below(msgspec.Struct):
        with suppress(TypeError, NameError):  # one that is never decoded
            msgspec.json.Decoder(each)
            count += 1
    return count


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)
