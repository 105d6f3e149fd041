"""What was last seen, so that a blind interval can be told with its difference. Owns no event but the gap."""

from __future__ import annotations

import time

import msgspec

from buckler.agent.engine import Outcome
from buckler.agent.recorder import Recorder
from buckler.agent.residents import Residents
from buckler.model.event import EventKind
from buckler.ports.state import Remembered, State

_REFRESH_SECONDS = 15.0


class Memory:
    """Written when something changed, and now and then to say "still here"."""

    def __init__(self, state: State, recorder: Recorder) -> None:
        self._state = state
        self._recorder = recorder
        self._seen = state.remembered()
        self._blind_since = self._seen.at
        self._blind_cause = "the agent was not running"

    def keep(self, outcome: Outcome, residents: Residents) -> None:
        """Remember this pass. Nothing is remembered before libvirt has answered: the gap is not over."""
        if not residents.is_complete or self._blind_since:
            return
        seen = Remembered(
            at=time.time(),
            revision=outcome.enforced,
            domains={domain.uuid: domain.state for domain in residents.snapshot.domains},
            taps=tuple(sorted(outcome.desired.devices.get(index, str(index)) for index in outcome.admitted)),
        )
        is_same = msgspec.structs.replace(seen, at=self._seen.at) == self._seen
        if not is_same or seen.at - self._seen.at > _REFRESH_SECONDS:
            self._state.remember(seen)
            self._seen = seen

    def lose_sight(self) -> None:
        """Libvirt is away from now on."""
        if not self._blind_since:
            self._blind_since = time.time()
            self._blind_cause = "libvirt was away"

    def tell_gap(self, residents: Residents) -> None:
        """Sight is back: one entry names the interval and what changed in it."""
        since, self._blind_since = self._blind_since, 0.0
        if not since:
            return
        now = {domain.uuid: domain.state for domain in residents.snapshot.domains}
        then = self._seen.domains
        changed = {
            uuid: [then.get(uuid, "absent"), now.get(uuid, "absent")]
            for uuid in sorted({*now, *then})
            if now.get(uuid) != then.get(uuid)
        }
        self._recorder.record(
            EventKind.GAP,
            cause=self._blind_cause,
            since=since,
            until=time.time(),
            domains=changed,
            taps_before=list(self._seen.taps),
        )
