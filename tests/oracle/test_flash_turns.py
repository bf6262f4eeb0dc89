"""Two query tiles in turn give, bit for bit, what one gives, in less time and with fewer loads."""

import numpy as np
import pytest

from accelsim.kernels.attention.flash.flash import Flash
from accelsim.loading import load_machine
from accelsim.program.ops import Unit
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

MACHINE = load_machine("ascend-910b-no-l2")
TILES = {"tile_q": 16, "tile_k": 32}


def problem_of(q_len, kv_len, causal, dtype="fp16"):
    return AttentionProblem(
        kind="attention",
        name="drawn",
        q_heads=4,
        kv_heads=2,
        head_dim=16,
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
        dtype=dtype,
    )


def recorded(problem, **choices):
    rng = np.random.default_rng(3)
    shapes = problem.input_shapes.values()
    tensors = AttentionTensors(
        *(rng.uniform(-2, 2, shape).astype(np.float16).astype(np.float32) for shape in shapes)
    )
    program, output = Flash.record(problem, MACHINE, Flash.parameters(**choices), tensors)
    verify(program)
    return program, output


@pytest.mark.parametrize("precision", ["fp32", "fp32_scores", "fp16_fp32", "fp16"])
@pytest.mark.parametrize(
    ("q_len", "kv_len", "causal"),
    [(64, 96, False), (70, 70, True), (16, 40, False), (17, 50, True), (1, 33, False)],
)
def test_a_pair_computes_what_one_tile_does(q_len, kv_len, causal, precision):
    problem = problem_of(q_len, kv_len, causal)
    _, one = recorded(problem, **TILES, precision=precision, query_tiles=1)
    _, pair = recorded(problem, **TILES, precision=precision, query_tiles=2, order="by_head")
    np.testing.assert_array_equal(one, pair)


def test_a_pair_shares_keys_and_values():
    problem = problem_of(64, 96, causal=False)
    loads = {}
    for query_tiles in (1, 2):
        program, _ = recorded(problem, **TILES, query_tiles=query_tiles)
        loads[query_tiles] = int(program.hbm_bytes[program.units == Unit.LOAD].sum())
    row_bytes = 4 * 16 * 2
    assert loads == {1: row_bytes * (64 + 4 * 2 * 96), 2: row_bytes * (64 + 2 * 2 * 96)}


def test_taking_turns_hides_the_vector_unit_behind_the_cube():
    """On a machine where both are needed equally long, one tile leaves each idle for a while."""
    machine, workload = "ascend-910b-no-l2", "llama-2-7b/prefill-4096/attention-of-prompts"
    one = simulate(machine, workload, "flash(tile_q=64, tile_k=128, query_tiles=1)")
    pair = simulate(
        machine,
        workload,
        "flash(tile_q=64, tile_k=128, query_tiles=2)",
        {"machine.scratchpad.capacity": "1 MiB"},
    )
    assert pair.cycles < one.cycles
    busiest = max(unit.utilization for unit in pair.units.values())
    assert busiest > max(unit.utilization for unit in one.units.values())
