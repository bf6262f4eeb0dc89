"""Vector functions that store codes: their statement bit by bit, their bytes, and the chain that
they are a part of: norm, codes, linear."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import ConfigError, DoesNotFitError, QuantizationError, WorkloadError
from accelsim.kernels.linear.quantized.quantized import Quantized
from accelsim.kernels.linear.quantized.tender import Tender
from accelsim.kernels.vector.coded import CODED
from accelsim.kernels.vector.rows import Vector
from accelsim.library.recipe import Recipe
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.coded_rows import coded_rows
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.simulation import simulate
from accelsim.workload.problem import GemmProblem, VectorProblem
from accelsim.workload.tensors import GemmTensors, VectorTensors
from tests.handmade import machine_of
from tests.oracle.recorded import moved_bytes, run

MACHINE = load_machine("tender-asic")


def problem_of(function, rows=7, cols=48, dtype=Format.FP32):
    return VectorProblem(
        kind="vector",
        name="drawn",
        function=function,
        rows=rows,
        cols=cols,
        dtype=dtype,
        **{"softcap": 2.0} if function == "softcap" else {},
    )


def tensors_of(problem, seed=0):
    """Values that FP16 holds, in channels of different size."""
    rng = np.random.default_rng(seed)
    shape = (problem.rows, problem.cols)
    sizes = np.exp(rng.normal(0, 1.5, problem.cols))
    drawn = (rng.uniform(-2, 2, shape) * sizes for _ in range(2))
    return VectorTensors(*(each.astype(np.float16).astype(np.float32) for each in drawn))


def last_of(output, problem):
    """Return the result that is coded: of two, the second."""
    return output[1] if problem.function.startswith("add_") else output


def plain_result(problem, tensors):
    """Return the result in FP32, as the vector unit has it before it is rounded."""
    wide = problem.model_copy(update={"dtype": Format.FP32})
    return last_of(run("vector", wide, tensors, machine=MACHINE)[1], problem)


def stated(problem, tensors, form):
    """Return what the codes of a result stand for, as `quantization` states it."""
    x, factors = plain_result(problem, tensors), np.ones(problem.cols, np.float32)
    if form.get("code_groups", 1) > 1:
        exact = last_of(Vector.oracle(problem, tensors), problem).astype(np.float32)
        options = GroupOptions(groups=form["code_groups"], chunk_rows=problem.rows)
        factors = channel_groups(exact[None], options).channel_factors(0)
    block = form.get("code_rotation")
    rotation = hadamard_rotation(problem.cols, block) if block else None
    x = rotation.of_activations(x) if rotation else x
    bits = Format(form["codes"]).bits
    coded = coded_rows(x * factors, factors, bits, form.get("code_candidates", 1))
    values = (coded.values / factors).astype(np.float32)
    return rotation.of_activations(values) if rotation else values


@st.composite
def drawn_forms(draw):
    form = {"codes": draw(st.sampled_from(["int4", "int8"]))}
    form["code_candidates"] = draw(st.sampled_from([1, 1, 3]))
    if draw(st.booleans()):
        return {**form, "code_rotation": draw(st.sampled_from([2, 8]))}
    return {**form, "code_groups": draw(st.integers(1, 6))}


@settings(max_examples=80)
@given(
    st.sampled_from(CODED),
    st.integers(1, 20),
    st.sampled_from([Format.FP16, Format.FP32]),
    drawn_forms(),
    st.none() | st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_every_bit_is_that_of_the_statement(function, rows, dtype, form, tile_rows, seed):
    problem = problem_of(function, rows, 48, dtype)
    tensors = tensors_of(problem, seed)
    given_tiles = {"tile_rows": tile_rows}
    _, output = run("vector", problem, tensors, machine=MACHINE, **form, **given_tiles)
    np.testing.assert_array_equal(last_of(output, problem), stated(problem, tensors, form))


@pytest.mark.parametrize("kernel", [Tender, Quantized])
@pytest.mark.parametrize(
    "function", ["rmsnorm", "add_rmsnorm", "add_layernorm", "silu_mul", "gelu_mul", "relu"]
)
@pytest.mark.parametrize("bits", [4, 8])
def test_with_fp32_in_hbm_the_chain_is_the_same_to_the_last_bit(kernel, function, bits):
    """Norm, then a linear that codes what it loads; and a norm that stores the same codes."""
    problem = problem_of(function, 20, 64)
    tensors, w = tensors_of(problem, 3), np.random.default_rng(4).normal(0, 0.1, (64, 24))
    x = plain_result(problem, tensors)
    gemm = GemmProblem(kind="gemm", name="drawn", m=20, n=24, k=64, dtype=Format.FP32)
    operands = GemmTensors(x, w.astype(np.float32))
    groups = {"groups": 5} if kernel is Tender else {}
    asked = {"activation_bits": bits, "weight_bits": bits, **groups}
    _, here = run(kernel.name, gemm, operands, machine=MACHINE, **asked)
    _, before = run(kernel.name, gemm, operands, machine=MACHINE, input="quantized", **asked)
    np.testing.assert_array_equal(here, before)

    parameters = kernel.parameters(input="quantized", **asked)
    known = kernel.plan(gemm, parameters, operands).known
    factors = known.get("x_factor", np.ones((1, 64)))
    read = (known["x_codes"] * known["x_scale"].astype(np.float64) / factors).astype(np.float32)
    form = {"codes": f"int{bits}"} | {f"code_{key}": value for key, value in groups.items()}
    _, stored = run("vector", problem, tensors, machine=MACHINE, **form)
    np.testing.assert_array_equal(last_of(stored, problem), read)


@pytest.mark.parametrize("function", CODED)
@pytest.mark.parametrize("codes", ["int4", "int8"])
def test_no_byte_is_moved_that_codes_do_not_need(function, codes):
    """Operands once; codes, and 4 bytes a row; a byte of a power of two a channel and tile."""
    problem = problem_of(function, 30, 96, Format.BF16)
    program, _ = run(
        "vector", problem, None, machine=MACHINE, codes=codes, code_groups=4, tile_rows=8
    )
    sizes = {tensor.name: moved_bytes(program, tensor.name) for tensor in program.tensors}
    matrix_bytes = 30 * 96 * 2
    expected = {"x": matrix_bytes, "result_codes": 30 * 96 * Format(codes).bits // 8}
    expected |= {"result_scale": 30 * 4, "result_factor": 4 * 96}
    if function.endswith("_mul") or function.startswith("add_"):
        expected["y"] = matrix_bytes
    if function.startswith("add_"):
        expected["sum"] = matrix_bytes
    assert sizes == expected


def test_a_program_without_numbers_is_the_same():
    problem = problem_of("silu_mul", 20, 64, Format.FP16)
    form = {"codes": "int4", "code_groups": 3, "code_candidates": 2}
    with_numbers, _ = run("vector", problem, tensors_of(problem), machine=MACHINE, **form)
    alone, _ = run("vector", problem, None, machine=MACHINE, **form)
    np.testing.assert_array_equal(with_numbers.ops, alone.ops)


def test_a_function_without_coded_results_is_refused():
    problem = VectorProblem(
        kind="vector", name="drawn", function="argmax", rows=4, cols=16, dtype=Format.FP16
    )
    message = r"found codes = int8 with function = argmax, allowed: with copy, .*, add_rmsnorm"
    with pytest.raises(WorkloadError, match=message):
        run("vector", problem, None, codes="int8")


@pytest.mark.parametrize("key", ["tile_cols", "tile_elements"])
def test_a_part_of_a_row_is_refused(key):
    with pytest.raises(WorkloadError, match=f"found {key} = 8 beside codes = int8, allowed: tile_"):
        run("vector", problem_of("rmsnorm"), None, codes="int8", **{key: 8})


def test_a_rotation_that_does_not_divide_the_row_is_refused():
    with pytest.raises(QuantizationError, match="block: found 32 of 48 channels, allowed: powers"):
        run("vector", problem_of("rmsnorm"), None, codes="int8", code_rotation=32)


def test_rows_that_do_not_fit_are_refused_with_their_buffers():
    small = machine_of(scratchpad_bytes=2048)
    with pytest.raises(DoesNotFitError, match=r"vector on drawn does not fit .*code_tile"):
        run("vector", problem_of("rmsnorm", 2, 1000), None, machine=small, codes="int8")


@pytest.mark.parametrize(
    ("key", "value"),
    [("code_groups", 4), ("code_candidates", 2), ("code_rotation", 8), ("code_calibration", "c")],
)
def test_a_form_without_codes_is_refused(key, value):
    with pytest.raises(ConfigError, match=f"{key}: found {value} without codes, allowed: beside c"):
        run("vector", problem_of("rmsnorm"), None, **{key: value})


@pytest.mark.parametrize("name", ["ascend-910b", "ascend-910b-no-l2", "tpu-like-128"])
@pytest.mark.parametrize(
    ("function", "cols"), [("rmsnorm", 4096), ("add_rmsnorm", 4096), ("silu_mul", 14336)]
)
def test_the_estimate_is_within_a_fifth(name, function, cols):
    """As that of functions whose rows are not coded (docs/algorithms/vector.md)."""
    problem, machine = problem_of(function, 2048, cols, Format.FP16), load_machine(name)
    recipe = Recipe("vector", codes="int8", code_groups=8)
    cycles = simulate(machine, LoadedWorkload(problem, Path()), recipe).cycles
    assert recipe.estimated_cycles(problem, machine) == pytest.approx(cycles, rel=0.2)


def test_rounding_to_fp16_first_moves_no_code_by_more_than_one():
    """So codes of the producer and codes of what it would have stored differ by one at most."""
    problem = problem_of("silu_mul", 200, 64, Format.FP16)
    tensors = tensors_of(problem, 5)
    x = plain_result(problem, tensors)
    ones = np.ones(64, np.float32)
    exact = coded_rows(x, ones, 8)
    rounded = coded_rows(x.astype(np.float16).astype(np.float32), ones, 8)
    change = np.abs(exact.codes - rounded.codes)
    assert change.max() == 1
    # A code moves where a value is within a rounding of FP16 of a tie: 127 x 2^-11 x 2 at most.
    assert 0 < change.mean() < 127 * 2**-10
