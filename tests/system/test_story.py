"""The demo's story, asserted: the same steps, each claim a test."""

import pytest

from buckler.lab.story.play import STEPS


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
@pytest.mark.timeout(180)
def test_claim_holds(step, cast):
    result = step.run(cast)
    assert result.holds, f"{step.claim}: {result}"
