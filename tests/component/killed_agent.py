"""``buckler agent run`` that kills itself with SIGKILL at the step named first: nothing can be tidied up on the way."""

from __future__ import annotations

import os
import signal
import sys
import time

from buckler.agent.assemble import Agent
from buckler.agent.kernel import real_drivers
from buckler.agent.settings import read_settings


def main() -> None:
    step = sys.argv[1]

    def die_at(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = read_settings()
    Agent(settings, real_drivers(settings), die_at).start()
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
