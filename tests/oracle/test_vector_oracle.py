"""The vector kernel computes its functions, on any tiles, and moves every byte once."""

import numpy as np
import pytest

from accelsim.errors import ConfigError, DoesNotFitError
from accelsim.kernels.vector.rows import Vector
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors
from tests.handmade import machine_of

FUNCTIONS = [
    *("copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu", "silu_mul"),
    *("gelu_mul", "relu", "relu_squared", "softcap"),
]
KEYS = {"softcap": {"softcap": 3.0}}
MACHINE = load_machine("edge-npu")
ONE_STAGE = {"tile_cols": 7, "stages": 1}
FP32_ERROR = 40 * 2**-24
"""Forty roundings of FP32: sums by halving of 96 columns take 7, the longest function 12 steps,
and a rounding before exp counts up to the size of its argument, which is at most 8 here."""


def problem_of(function, rows=7, cols=96, dtype=Format.FP32):
    return VectorProblem(
        kind="vector",
        name="drawn",
        function=function,
        rows=rows,
        cols=cols,
        dtype=dtype,
        **KEYS.get(function, {}),
    )


def tensors_of(problem, seed=0):
    rng = np.random.default_rng(seed)
    shape = (problem.rows, problem.cols)
    return VectorTensors(*(rng.uniform(-4, 4, shape).astype(np.float32) for _ in range(2)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "tiles",
    [{}, {"tile_rows": 3, "tile_cols": 40, "tile_elements": 50}, {"tile_cols": 7, "stages": 1}],
)
def test_every_function_is_its_definition_up_to_fp32(function, tiles):
    problem = problem_of(function)
    tensors = tensors_of(problem)
    program, output = Vector.record(problem, MACHINE, Vector.parameters(**tiles), tensors)
    verify(program)
    exact = Vector.oracle(problem, tensors)
    assert np.abs(output - exact).max() <= FP32_ERROR * np.abs(exact).max()


def test_definitions_agree_with_values_known_from_outside():
    """softmax of equal scores, gelu and silu at 1 from their published tables."""
    one = VectorTensors(*(np.ones((1, 4), np.float32) for _ in range(2)))

    def first(function):
        return Vector.oracle(problem_of(function, 1, 4), one)[0, 0]

    assert first("softmax") == 0.25
    assert first("silu") == pytest.approx(0.7310586, abs=1e-7)
    assert first("gelu") == pytest.approx(0.841192, abs=1e-6)
    assert first("silu_mul") == pytest.approx(0.7310586, abs=1e-7)
    assert first("gelu_mul") == first("gelu")
    assert first("relu") == first("relu_squared") == 1
    assert first("softcap") == pytest.approx(3 * 0.3215127, abs=1e-6)
    assert first("rmsnorm") == pytest.approx(1 / np.sqrt(1 + 1e-5), rel=1e-12)
    assert first("layernorm") == 0


def test_what_is_below_zero_is_cut_off():
    problem = problem_of("relu", 1, 4)
    tensors = VectorTensors(np.array([[-2.0, -0.0, 0.5, 3.0]], np.float32), None)
    for function, values in (("relu", [0, 0, 0.5, 3]), ("relu_squared", [0, 0, 0.25, 9])):
        own = problem.model_copy(update={"function": function})
        _, output = Vector.record(own, MACHINE, Vector.parameters(), tensors)
        assert output.tolist() == [values] == Vector.oracle(own, tensors).tolist()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_operands_are_read_once_and_the_result_is_written_once(function):
    problem = problem_of(function, rows=300, cols=1000, dtype=Format.BF16)
    program, _ = Vector.record(problem, MACHINE, Vector.parameters(), None)
    verify(program)
    moved = {unit: int(program.hbm_bytes[program.units == unit].sum()) for unit in Unit}
    matrix_bytes = 300 * 1000 * 2
    assert moved[Unit.LOAD] == matrix_bytes * (2 if function.endswith("_mul") else 1)
    assert moved[Unit.STORE] == matrix_bytes


@pytest.mark.parametrize("function", ["softmax", "rmsnorm", "layernorm"])
def test_rows_in_steps_are_read_twice(function):
    problem = problem_of(function, rows=300, cols=1000, dtype=Format.BF16)
    program, _ = Vector.record(problem, MACHINE, Vector.parameters(tile_cols=300), None)
    verify(program)
    moved = {unit: int(program.hbm_bytes[program.units == unit].sum()) for unit in Unit}
    assert moved[Unit.LOAD] == 2 * moved[Unit.STORE] == 2 * 300 * 1000 * 2


@pytest.mark.parametrize("function", ["softmax", "rmsnorm", "layernorm"])
def test_rows_that_do_not_fit_are_taken_in_steps(function):
    small, problem = machine_of(scratchpad_bytes=4096), problem_of(function, 2, 1000)
    tensors = tensors_of(problem)
    program, output = Vector.record(problem, small, Vector.parameters(), tensors)
    verify(program)
    exact = Vector.oracle(problem, tensors)
    assert program.read_bytes == 2 * program.write_bytes
    assert np.abs(output - exact).max() <= FP32_ERROR * np.abs(exact).max()


def test_a_step_of_masked_scores_takes_nothing_from_a_softmax():
    problem = problem_of("softmax")
    tensors = tensors_of(problem)
    tensors.x[:, :32] = -np.inf
    _, output = Vector.record(problem, MACHINE, Vector.parameters(tile_cols=16), tensors)
    assert np.abs(output - Vector.oracle(problem, tensors)).max() <= FP32_ERROR


def test_the_variance_of_rows_in_steps_survives_a_large_mean():
    """Sums of squares would lose it: 1e4^2 is 2^27 times the variance."""
    problem = problem_of("layernorm")
    tensors = VectorTensors(tensors_of(problem).x + np.float32(1e4), None)
    _, output = Vector.record(problem, MACHINE, Vector.parameters(tile_cols=16), tensors)
    # An input of 1e4 has a rounding of 2^-24 of itself before anything is computed.
    allowed = FP32_ERROR * 1e4
    assert np.abs(output - Vector.oracle(problem, tensors)).max() <= allowed


def test_a_row_that_fits_no_scratchpad_is_refused_with_its_buffers():
    small = machine_of(scratchpad_bytes=512)
    with pytest.raises(DoesNotFitError, match=r"vector on drawn does not fit .* x 2 x 1x125"):
        Vector.record(problem_of("softmax", 2, 1000), small, Vector.parameters(), None)


def test_a_machine_without_square_roots_says_so():
    machine = load_machine("edge-npu", {"vector.costs.square_root": None})
    workload = "rmsnorm-4096"
    with pytest.raises(DoesNotFitError, match="its vector unit has no square_root"):
        simulate(machine, workload, "vector")


def test_a_shipped_workload_is_computed_as_accurately_as_its_format():
    report = simulate("ascend-910b-no-l2", "silu-mul-small", "vector")
    # One rounding to BF16 at the end: half a unit in the eighth bit.
    assert report.accuracy.relative_rmse < 2**-9
    assert report.macs == 0


def test_a_function_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="layernorm"):
        simulate("edge-npu", "rmsnorm-4096", "vector", {"workload.function": "layer"})
