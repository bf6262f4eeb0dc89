"""Parts of sampled schedules: the fitted line, the choice, and what is recorded."""

import numpy as np
import pytest

from accelsim.config.sample import checked_sample
from accelsim.engine import window
from accelsim.engine.sampling import choice
from accelsim.engine.sampling.estimate import Size, estimate, student_t
from accelsim.engine.sampling.items import num_ops_of
from accelsim.engine.sampling.schedule import (
    L2_TIME_BIAS,
    TIME_BIAS,
    check_known_traffic,
    schedule,
)
from accelsim.errors import ProgramError, SampleError
from accelsim.loading import load_technology
from accelsim.program.language import begin_item
from accelsim.program.long import LongProgram, Recording
from accelsim.program.recording import record_op
from accelsim.report.counting import measured_of
from accelsim.runtime.jit import jit
from accelsim.simulation import simulate
from tests.handmade import cache_of, machine_of
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
    own.play(lambda piece: found.append(piece.ops.copy()), 20, wanted=wanted)
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


def test_a_sample_is_taken_only_where_it_is_asked_for(monkeypatch):
    asked = "edge-npu", "rmsnorm-4096"
    monkeypatch.setattr(choice, "MOST_STEPS", 1000)
    monkeypatch.setattr(choice, "_SAMPLE_STEPS", 4000)
    whole = simulate(*asked)
    assert whole.sampling is None
    assert "sampling" not in whole.to_dict()
    assert simulate(*asked, sample="never").to_dict() == whole.to_dict()
    for sample in ("auto", 0.2, "0.2"):
        found = simulate(*asked, sample=sample).sampling
        assert 0 < found.scheduled_share < 1
        assert found.time_low_s <= whole.time_s <= found.time_high_s
        assert found.hbm_low_bytes <= whole.hbm_read_bytes + whole.hbm_write_bytes
        assert found.energy_low_j <= whole.energy_j <= found.energy_high_j
        assert found.note == ""


def test_auto_schedules_all_of_what_is_short():
    asked = "edge-npu", "rmsnorm-4096"
    assert simulate(*asked, sample="auto").to_dict() == simulate(*asked).to_dict()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"engine": "reference"}, "the reference engine"),
        ({"timeline": True}, "one program"),
        ({"one_program": True}, "one program"),
    ],
)
def test_what_needs_all_ops_refuses_a_share(how, reason):
    message = f"sample: found 0.2 with {reason}, which schedules all ops; allowed: auto or never"
    with pytest.raises(SampleError, match=message):
        simulate("edge-npu", "rmsnorm-4096", sample=0.2, **how)


@pytest.mark.parametrize("how", [{"engine": "reference"}, {"one_program": True}])
def test_auto_samples_nothing_that_needs_all_ops(how, monkeypatch):
    monkeypatch.setattr(choice, "MOST_STEPS", 1000)
    monkeypatch.setattr(choice, "_SAMPLE_STEPS", 4000)
    found = simulate("edge-npu", "rmsnorm-4096", sample="auto", **how)
    assert found.to_dict() == simulate("edge-npu", "rmsnorm-4096", **how).to_dict()


def sampled_triangle(**settings):
    program, machine = triangle(heads=6, blocks=160), machine_of(cores=2, **settings)
    return schedule(in_pieces(program), machine, 0.1), window.schedule(program, machine), machine


def test_behind_an_l2_the_time_alone_is_estimated():
    found, _, machine = sampled_triangle(l2=cache_of(sets=32))
    assert found.hbm_bytes_margin is None
    assert found.cycles_margin >= L2_TIME_BIAS * found.cycles
    assert found.at_most.traffic == found.traffic
    measured = measured_of(found, machine, load_technology(machine.technology))
    told = (2 * measured).sampling
    assert told.time_high_s - told.time_low_s >= 2 * L2_TIME_BIAS * 2 * measured.time_s * 0.999
    assert told.hbm_low_bytes is told.hbm_high_bytes is told.energy_low_j is told.energy_high_j
    assert told.hbm_low_bytes is None
    assert "HBM bytes, L2 hits, energy and power are not estimated" in told.note


def test_without_an_l2_the_interval_has_a_width_too():
    found, whole, _ = sampled_triangle()
    assert found.hbm_bytes_margin is not None
    assert found.cycles_margin >= TIME_BIAS * found.cycles
    assert abs(found.cycles - whole.cycles) <= found.cycles_margin


def test_a_clock_is_not_lowered_for_traffic_that_is_not_estimated():
    found, whole, machine = sampled_triangle(l2=cache_of(sets=32))
    with pytest.raises(SampleError, match=r"the power cap of .* lowers the clock, which follows"):
        check_known_traffic(found, machine)
    check_known_traffic(whole, machine)
    check_known_traffic(sampled_triangle()[0], machine)
