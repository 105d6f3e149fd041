"""A host's real spool and uplink as a process of its own, to be killed at any moment: ``STATE URL COUNT``.

It records events up to number COUNT, each in a transaction as an agent does, and hands them over until it is killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from buckler.agent.claims import PendingClaims
from buckler.agent.lookups import PendingNames
from buckler.agent.outbox import Outbox
from buckler.agent.recorder import Recorder
from buckler.agent.uplink import Uplink
from buckler.client.agentside import ControllerClient
from buckler.drivers.state.sqlite import SqliteState
from buckler.model.event import EventKind


def run(folder: str, count: int) -> None:
    """Tell of each number once, if the state keeps its word."""
    state = SqliteState(Path(folder))
    membership = state.membership()
    assert membership is not None
    key = Ed25519PrivateKey.from_private_bytes(state.host_key())
    client = ControllerClient(membership.controllers[0], membership.host, key, membership.ca_certificate)
    outbox = Outbox()
    uplink = Uplink((client,), state, outbox, PendingClaims(), PendingNames())
    uplink.start()
    recorder = Recorder(state, membership.host, outbox.wake)
    done = int(state.document("told") or 0)
    while True:
        if done < count:
            # What is about to be recorded is noted first: a death in between leaves a number out, and never doubles one.
            done += 1
            state.put_document("told", str(done))
            recorder.record(EventKind.DOMAIN_STARTED, number=done)
        time.sleep(0.002)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))
