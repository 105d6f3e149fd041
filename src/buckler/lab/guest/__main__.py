"""``python -m buckler.lab.guest``: build the guest image and say where it is; ``--if-stale`` is silent when all is there."""

from __future__ import annotations

import sys

from buckler.lab.guest.image import ImageFailed, image


def main() -> int:
    """Return the exit code."""
    try:
        built = image(lambda line: print(line, flush=True))  # noqa: T201  (this is a command)
    except ImageFailed as failure:
        sys.stderr.write(f"the guest image: {failure}\n")
        return 1
    if "--if-stale" not in sys.argv:
        print(f"{built.kernel}\n{built.initramfs}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
