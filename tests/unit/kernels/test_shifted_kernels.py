"""What pasa and centered move, how they take bad input, and what they gain."""

import numpy as np
import pytest

from accelsim.engine import compiled, reference
from accelsim.errors import ConfigError, DoesNotFitError
from accelsim.kernels.attention.shifted.centered import Centered
from accelsim.kernels.attention.shifted.pasa import Pasa
from accelsim.loading import load_machine
from accelsim.program.ops import Unit
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

MACHINE = load_machine("edge-npu")
HALF, SINGLE = 2, 4
"""Bytes of an element."""
VARIANTS = [
    (Pasa, {"shift": "once"}),
    (Pasa, {"shift": "per_query_tile"}),
    (Pasa, {"shift": "cached"}),
    (Centered, {"shift": "once"}),
    (Centered, {"shift": "cached"}),
]


def problem_of(**changes):
    shape = {"q_heads": 4, "kv_heads": 2, "head_dim": 16, "q_len": 100, "kv_len": 150}
    return AttentionProblem(kind="attention", name="p", **(shape | {"causal": True} | changes))


def tensors_of(problem, q=0.5, k=0.5, v=0.5, seed=3):
    rng = np.random.default_rng(seed)
    scales = {"q": q, "k": k, "v": v}
    values = (
        (scales[name] * rng.standard_normal(shape)).astype(np.float16).astype(np.float32)
        for name, shape in problem.input_shapes.items()
    )
    return AttentionTensors(*values)


def output_of(kernel, problem, tensors, **settings):
    return kernel.record(problem, MACHINE, kernel.parameters(**settings), tensors)[1]


def moved_bytes(program, unit):
    """Bytes by tensor that a queue moves."""
    return {
        tensor.name: int(
            program.hbm_bytes[(program.units == unit) & (program.tensor_indices == i)].sum()
        )
        for i, tensor in enumerate(program.tensors)
    }


def seen_tiles(problem, tile_q, tile_k):
    """Key tiles of a head that each query tile loads, and their real keys, summed."""
    tiles, keys = 0, 0
    for row in range(0, problem.q_len, tile_q):
        seen = problem.kv_len
        if problem.causal:
            seen = min(row + tile_q, problem.q_len) + problem.kv_len - problem.q_len
        count = ceil_div(seen, tile_k)
        tiles, keys = tiles + count, keys + min(count * tile_k, problem.kv_len)
    return tiles, keys


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("shift", ["once", "per_query_tile", "cached"])
def test_pasa_moves_what_its_docstring_says(shift, precision, causal):
    problem, n = problem_of(causal=causal), 32
    parameters = Pasa.parameters(tile_q=24, tile_k=n, shift=shift, precision=precision, fold=False)
    program, _ = Pasa.record(problem, MACHINE, parameters, None)
    verify(program)
    dim, b, shifted_b = problem.head_dim, HALF, HALF if precision == "fp16" else SINGLE
    heads, kv_heads, all_tiles = problem.q_heads, problem.kv_heads, ceil_div(problem.kv_len, n)
    tiles, keys = seen_tiles(problem, 24, n)
    matrix, whole_k = n * n * shifted_b, kv_heads * all_tiles * n * dim
    shift_items = min(kv_heads * all_tiles, MACHINE.cores * MACHINE.items_in_flight)
    reads = {"q": heads * problem.q_len * dim * b, "v": heads * keys * dim * b}
    writes = {"o": heads * problem.q_len * dim * b}
    if shift == "per_query_tile":
        reads |= {"k": heads * tiles * n * dim * b, "m": heads * ceil_div(100, 24) * matrix}
    else:
        reads["k_shifted"] = heads * tiles * n * dim * shifted_b
    if shift == "once":
        reads |= {"k": whole_k * b, "m": shift_items * matrix}
        writes["k_shifted"] = whole_k * shifted_b
    assert {k: v for k, v in moved_bytes(program, Unit.LOAD).items() if v} == reads
    assert {k: v for k, v in moved_bytes(program, Unit.STORE).items() if v} == writes


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shift", ["once", "cached"])
def test_centered_moves_what_its_docstring_says(shift, causal):
    problem, tile_k = problem_of(causal=causal), 32
    parameters = Centered.parameters(tile_q=24, tile_k=tile_k, shift=shift, fold=False)
    program, _ = Centered.record(problem, MACHINE, parameters, None)
    verify(program)
    row = problem.head_dim * HALF
    heads, kv_heads, all_tiles = problem.q_heads, problem.kv_heads, ceil_div(problem.kv_len, tile_k)
    tiles, keys = seen_tiles(problem, 24, tile_k)
    reads = {
        "q": heads * problem.q_len * row,
        "v": heads * keys * row,
        "k_shifted": heads * keys * row,
        "k_means": heads * tiles * row,
    }
    writes = {"o": heads * problem.q_len * row}
    if shift == "once":
        reads["k"] = kv_heads * problem.kv_len * row
        writes |= {
            "k_shifted": kv_heads * problem.kv_len * row,
            "k_means": kv_heads * all_tiles * row,
        }
    assert {k: v for k, v in moved_bytes(program, Unit.LOAD).items() if v} == reads
    assert {k: v for k, v in moved_bytes(program, Unit.STORE).items() if v} == writes


@pytest.mark.parametrize(("kernel", "settings"), VARIANTS)
def test_where_keys_are_shifted_changes_no_bit(kernel, settings):
    problem = problem_of()
    tensors = tensors_of(problem)
    tiles = {"tile_q": 24, "tile_k": 32}
    found = output_of(kernel, problem, tensors, **tiles, **settings)
    expected = output_of(kernel, problem, tensors, **tiles, shift="once")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kernel", "settings"), VARIANTS)
def test_recording_without_tensors_gives_the_same_program(kernel, settings):
    problem = problem_of()
    parameters = kernel.parameters(tile_q=24, tile_k=32, **settings)
    with_numbers, output = kernel.record(problem, MACHINE, parameters, tensors_of(problem))
    cost_only, nothing = kernel.record(problem, MACHINE, parameters, None)
    np.testing.assert_array_equal(with_numbers.ops, cost_only.ops)
    assert output is not None
    assert nothing is None


@pytest.mark.parametrize(("kernel", "settings"), VARIANTS)
def test_both_engines_agree(kernel, settings):
    problem = problem_of()
    parameters = kernel.parameters(tile_q=24, tile_k=32, **settings)
    program, _ = kernel.record(problem, MACHINE, parameters, None)
    fast, slow = compiled.schedule(program, MACHINE), reference.schedule(program, MACHINE)
    np.testing.assert_array_equal(fast.start, slow.start)
    np.testing.assert_array_equal(fast.end, slow.end)


@pytest.mark.parametrize("kernel", [Pasa, Centered])
@pytest.mark.parametrize("precision", ["fp16", "fp16_fp32", "fp32"])
def test_one_token_attends_to_itself(kernel, precision):
    problem = problem_of(q_len=1, kv_len=1)
    tensors = tensors_of(problem)
    found = output_of(kernel, problem, tensors, precision=precision)
    np.testing.assert_array_equal(found, np.repeat(tensors.v[:, 0], 2, axis=0))


@pytest.mark.parametrize("kernel", [Pasa, Centered])
def test_equal_scores_give_the_mean_of_the_values(kernel):
    """Values 0 and 1 in turn: sums of up to 150 are exact in FP16, and so is their quotient 1/2."""
    problem = problem_of(causal=False)
    tensors = tensors_of(problem, k=0)
    tensors.v[:] = (np.arange(problem.kv_len) % 2)[None, :, None]
    found = output_of(kernel, problem, tensors, tile_k=32)
    np.testing.assert_array_equal(found, 0.5)


@pytest.mark.parametrize("kernel", [Pasa, Centered])
def test_a_dominating_key_is_the_answer(kernel):
    """A score of 64 in front of 0 leaves the others e^-64, nothing in FP16."""
    problem = problem_of(causal=False)
    tensors = tensors_of(problem, k=0)
    tensors.q[:], tensors.k[:, 70] = 4, 4
    found = output_of(kernel, problem, tensors, tile_k=32)
    np.testing.assert_array_equal(
        found.reshape(4, -1, 16), np.repeat(tensors.v[:, 70:71], 2, axis=0).repeat(100, axis=1)
    )


@pytest.mark.parametrize("kernel", [Pasa, Centered])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_key_that_is_not_finite_reaches_every_query_that_sees_its_tile(kernel, value):
    problem = problem_of()
    tensors = tensors_of(problem)
    tensors.k[0, 140, 3] = value
    found = output_of(kernel, problem, tensors, tile_q=10, tile_k=32).reshape(4, 100, 16)
    sees_tile = np.arange(100) // 10 * 10 + 9 + 50 >= 128  # of a query tile, its last row decides
    assert np.isnan(found[:2, sees_tile & (np.arange(100) + 50 >= 128)]).all()
    assert np.isfinite(found[:2, ~sees_tile]).all()
    assert np.isfinite(found[2:]).all()


def test_the_mean_of_fp16_scores_does_not_overflow_where_their_sum_does():
    """128 scores of (1 - beta) 64 x 40^2 / 8 = 800 add up to 102,400, more than FP16 holds."""
    problem = problem_of(q_heads=1, kv_heads=1, head_dim=64, q_len=8, kv_len=256, causal=False)
    tensors = tensors_of(problem)
    for each in (tensors.q, tensors.k):
        each[:] = 40
    found = output_of(Pasa, problem, tensors, tile_k=128)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("pasa(statistics=fp16, precision=fp32)", {}),
        ("pasa(statistics=fp16)", {"workload.dtype": "bf16"}),
    ],
)
def test_fp16_statistics_need_an_fp16_vector_path(recipe, settings):
    with pytest.raises(ConfigError) as caught:
        simulate(MACHINE, "attention-2048", recipe, settings)
    assert str(caught.value) == (
        "statistics: found fp16 with a vector path in fp32, allowed: fp32, or precision fp16"
    )


@pytest.mark.parametrize("kernel", ["pasa", "centered"])
def test_a_machine_without_an_fp16_vector_path_is_refused(kernel):
    machine = load_machine("edge-npu", {"vector.lanes": {"fp32": 16}})
    with pytest.raises(DoesNotFitError) as caught:
        simulate(machine, "attention-2048", kernel)
    assert str(caught.value) == (
        f"machine edge-npu: its vector unit has no fp16, which {kernel} on attention-2048 uses; "
        "it has fp32"
    )


@pytest.mark.parametrize("kernel", ["pasa", "centered"])
def test_tiles_that_do_not_fit_are_refused(kernel):
    with pytest.raises(
        DoesNotFitError, match=f"{kernel} on attention-2048 does not fit the scratc"
    ):
        simulate(MACHINE, "attention-2048", f"{kernel}(tile_q=2048, tile_k=128)")
