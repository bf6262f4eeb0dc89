"""What a change of number format costs where a file says it by both formats."""

import numpy as np
import pytest

from accelsim.accounts.activity import count_activity
from accelsim.accounts.energy import energy_by_component
from accelsim.engine import compiled
from accelsim.engine.durations import work_of
from accelsim.kernels.attention.precision import formats_of
from accelsim.kernels.estimate.costs import CostTable, widen_op
from accelsim.loading import load_machine, load_technology
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.runtime.jit import jit
from accelsim.workload.problem import AttentionProblem

ROWS, COLS = 40, 128
CONVERSIONS = {"fp8_e4m3": {"fp16": 10, "bf16": 16}, "int8": {"fp16": 3}}
KV = {"kind": "attention", "name": "a", "q_heads": 2, "kv_heads": 1, "q_len": 1, "kv_len": 64}


def machine_of(cube=None):
    """100 lanes at one pass a conversion, but for those above."""
    own = {f"vector.conversions.{name}": passes for name, passes in CONVERSIONS.items()}
    own |= {"vector.lanes.bf16": 100, "vector.lanes.fp16": 100, "vector.costs.convert": 1}
    own |= {"vector.issue_cycles": 0, "cube.rates.bf16": 1, "cube.rates.fp8_e4m3": 1}
    return load_machine("edge-npu", own | (cube or {}), needs_costs=False)


@jit
def _one(p, src, dst):
    al.begin_item(p, 0)
    al.convert(p, al.tile(dst, 0, ROWS, COLS), al.tile(src, 0, ROWS, COLS))


def program_of(source, target):
    builder = ProgramBuilder("conversion", with_numbers=False)
    tiles = [
        builder.buffer(name, ROWS, COLS, fmt) for name, fmt in (("from", source), ("to", target))
    ]
    return builder.record(_one, 1, *tiles)


def activity_of(source, target, machine):
    return count_activity(compiled.schedule(program_of(source, target), machine), machine)


@pytest.mark.parametrize(
    ("source", "target", "passes"),
    [
        (Format.FP8_E4M3, Format.FP16, 10),
        (Format.FP8_E4M3, Format.BF16, 16),
        (Format.INT8, Format.FP16, 3),
        (Format.FP8_E5M2, Format.FP16, 1),
        (Format.FP16, Format.FP8_E4M3, 1),
        (Format.INT4, Format.FP16, 1),
    ],
)
def test_a_conversion_takes_the_passes_of_its_two_formats(source, target, passes):
    """52 groups of 100 lanes; the same for engine and estimate."""
    machine = machine_of({"scratchpad.bandwidth": "1000000 B/cycle"})
    (cycles,) = work_of(program_of(source, target), machine).busy_cycles
    assert cycles == 52 * passes
    if target.bits > source.bits:
        estimate = CostTable([widen_op(source, target, 1, 2)])
        found = estimate.of(machine, ROWS, np.array([COLS]))
        assert found[0, 0] == cycles


def test_a_widened_element_counts_as_a_conversion_and_by_its_formats():
    activity = activity_of(Format.FP8_E4M3, Format.BF16, machine_of())
    assert activity.vector_elements == {("convert", Format.BF16): ROWS * COLS}
    assert activity.widened_elements == {(Format.FP8_E4M3, Format.BF16): ROWS * COLS}
    assert activity_of(Format.BF16, Format.FP8_E4M3, machine_of()).widened_elements == {}


def test_energy_of_a_conversion_is_that_of_its_formats_where_the_technology_has_it():
    machine, technology = load_machine("h200-sxm"), load_technology("4n")
    lane = technology.vector[Format.FP16]
    plain = lane.of("convert").value
    own = lane.conversions[Format.FP8_E4M3].value
    assert own > plain
    for source, each in ((Format.FP8_E4M3, own), (Format.INT8, plain)):
        activity = activity_of(source, Format.FP16, machine)
        joules = energy_by_component(activity, machine, technology)["vector"]
        assert joules == pytest.approx(ROWS * COLS * each * 1e-12)


@pytest.mark.parametrize(("mixes", "widens"), [(True, False), (False, True)])
def test_the_vector_unit_widens_for_a_matrix_unit_that_does_not_mix_formats(mixes, widens):
    machine = machine_of({"cube.mixes": mixes})
    problem = AttentionProblem.model_validate(
        KV | {"head_dim": 16, "dtype": "bf16", "kv_dtype": "fp8_e4m3"}
    )
    formats = formats_of(problem, machine, None)
    assert formats.widens_kv == widens
    assert formats.keys == (Format.BF16 if widens else Format.FP8_E4M3)


def test_a_matrix_unit_mixes_formats_unless_a_file_says_otherwise():
    assert load_machine("ascend-910b").cube_for("a product").mixes
    assert not load_machine("h200-sxm").cube_for("a product").mixes
