"""Parts of sampled schedules: the fitted line, the choice, and what is recorded."""

import numpy as np
import pytest

from accelsim.config.sample import checked_sample
from accelsim.engine.sampling.estimate import Size, estimate, student_t
from accelsim.engine.sampling.items import num_ops_of
from accelsim.errors import ProgramError, SampleError
from accelsim.program.language import begin_item
from accelsim.program.long import LongProgram, Recording
from accelsim.program.recording import record_op
from accelsim.runtime.jit import jit
from tests.property.engine.test_sampling import triangle
from tests.property.engine.test_windows import in_pieces


@jit
def _replay_wanted(p, words, item_start, item_phase):
    """Record those items of a program again that are wanted."""
    for item in range(len(item_phase)):
        if not begin_item(p, item_phase[item]):
            continue
        for op in range(item_start[item], item_start[item + 1]):
            w = words[op]
            record_op(p, w[0], w[1], w[2], w[3], w[4], w[5], w[6])


def long_program(program, kernel=_replay_wanted, items=None):
    arguments = program.ops, program.item_start, program.item_phase
    recording = Recording(kernel, items or program.num_items, arguments)
    return LongProgram(program.name, recording, program.tensors, program.buffers)


def test_a_line_is_met_exactly():
    items, ops = np.array([8.0, 8, 8, 8]), np.array([100.0, 200, 400, 800])
    taken = np.stack([3 * ops + 50 * items, 7 * ops], axis=1)
    found = estimate(taken, Size(items, ops), Size(np.float64(1000), np.float64(20_000)))
    np.testing.assert_allclose(found.amounts, [3 * 20_000 + 50 * 1000, 7 * 20_000])
    np.testing.assert_allclose(found.margins, 0, atol=1e-6)


def test_the_interval_of_equal_runs_is_that_of_a_mean():
    rates = np.array([1.0, 2.0, 3.0, 4.0])
    same = np.full(4, 10.0)
    found = estimate(10 * rates[:, None], Size(same, same), Size(np.float64(40), np.float64(40)))
    assert found.amounts == pytest.approx([2.5 * 40])
    # Student's t with 3 degrees of freedom; four runs were seen and four are left out.
    expected = 3.182 * rates.std(ddof=1) * np.sqrt(1 / 4 + 1 / 4) * 40
    assert found.margins == pytest.approx([expected])
    assert student_t(1) == 12.706
    assert student_t(500) == 2.042


@pytest.mark.parametrize("kernel", [_replay_wanted, None])
def test_only_wanted_items_are_handed_over(kernel):
    program = triangle(heads=3, blocks=20)
    own = long_program(program, kernel) if kernel else in_pieces(program)
    wanted, found = [(0, 2), (2, 7), (30, 31), (58, 60)], []
    own.play(lambda piece: found.append(piece.ops.copy()), 20, wanted)
    items = [program.part(*each).ops for each in wanted]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(items))
    np.testing.assert_array_equal(own.item_phase, program.item_phase)


def test_ops_between_recorded_items_lie_on_lines():
    program = triangle(heads=7, blocks=400)
    found = num_ops_of(long_program(program))
    assert found.sum() == pytest.approx(program.num_ops, rel=2e-3)
    assert abs(found - np.diff(program.item_start)).max() <= np.diff(program.item_start).max() / 20


def test_a_kernel_that_begins_fewer_items_is_refused():
    program = triangle(heads=2, blocks=10)
    with pytest.raises(ProgramError, match="began 20 work items, but announced 21"):
        _ = long_program(program, items=21).item_phase


@pytest.mark.parametrize("value", [0, "0", -0.1, 1.5, "some", "nan", None, True])
def test_a_sample_that_is_none_is_refused(value):
    allowed = "auto, never, or the share of the ops to schedule, above 0 and at most 1"
    with pytest.raises(SampleError, match=f"sample: found {value}, allowed: {allowed}"):
        checked_sample(value)


def test_a_sample_may_be_text():
    assert [checked_sample(each) for each in ("auto", "never", "0.05", 1)] == [
        "auto",
        "never",
        0.05,
        1,
    ]
