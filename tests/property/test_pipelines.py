"""Times of pipelines against micro-batches that are followed from stage to stage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.inference.pipeline import drained_s, repeated_s

STAGES = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=6)


def followed(stage_s, microbatches, rounds):
    """Return when each round is through, if a micro-batch begins anew once it was through."""
    free = [0.0] * len(stage_s)
    through = [0.0] * microbatches
    ends = []
    for _ in range(rounds):
        for number in range(microbatches):
            now = through[number]
            for stage, time_s in enumerate(stage_s):
                now = max(now, free[stage]) + time_s
                free[stage] = now
            through[number] = now
        ends.append(through[-1])
    return ends


@given(STAGES, st.integers(1, 9))
def test_one_round_drains(stage_s, microbatches):
    (end,) = followed(stage_s, microbatches, 1)
    assert drained_s(stage_s, microbatches) == pytest.approx(end)


@given(STAGES, st.integers(1, 9))
def test_rounds_follow_each_other(stage_s, microbatches):
    ends = followed(stage_s, microbatches, 40)
    assert repeated_s(stage_s, microbatches) == pytest.approx((ends[-1] - ends[19]) / 20)


@given(st.integers(1, 8), st.integers(1, 32))
def test_equal_stages_wait_for_the_share_of_the_published_bubble(stages, microbatches):
    whole_s = drained_s([2.0] * stages, microbatches)
    bubble = 1 - microbatches * 2.0 / whole_s
    assert bubble == pytest.approx((stages - 1) / (microbatches + stages - 1))
