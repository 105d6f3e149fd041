"""Only one agent may run on a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from buckler.agent.lock import AlreadyRunning, take_lock


def test_a_second_agent_is_turned_away_until_the_first_is_gone(tmp_path: Path):
    first = take_lock(tmp_path)
    with pytest.raises(AlreadyRunning, match="another agent"):
        take_lock(tmp_path)
    first.close()
    take_lock(tmp_path).close()
