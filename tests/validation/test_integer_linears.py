"""Quantized linears against closed forms: cycles of the array, HBM traffic of every tensor."""

from collections import Counter
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled
from accelsim.engine.durations import work_of
from accelsim.loading import load_machine
from accelsim.program.ops import UNIT_OF_OP, A, B, Op, Unit
from accelsim.workload.problem import GemmProblem
from tests.oracle.recorded import moved_bytes, run

MACHINE = load_machine("tender-asic")


def problem_of(m, n, k):
    return GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k)


def array_cycles(name, problem, **settings):
    """Return the cycles of every product of a program."""
    program, _ = run(name, problem, None, machine=MACHINE, **settings)
    cycles = work_of(program, MACHINE).busy_cycles
    return [int(each) for each in cycles[program.op_codes == Op.INT_MATMUL]]


@pytest.mark.parametrize(("k", "groups"), [(4096, 8), (4096, 16), (512, 1)])
def test_a_tile_takes_its_channels_a_cycle_for_each_shift_and_the_skew(k, groups):
    problem = problem_of(64, 64, k)
    narrow = {"activation_bits": 4, "weight_bits": 4, "tile_k": k}
    shifted = array_cycles("tender", problem, groups=groups, **narrow)
    assert shifted == [k + (groups - 1) + 2 * 63]
    explicit = array_cycles("requantized", problem, groups=groups, **narrow)
    assert explicit == [k // groups + 2 * 63] * groups
    # Tender, ISCA 2024: what rescaling adds to a tile.
    (plain,) = array_cycles("quantized", problem, **narrow)
    assert (shifted[0] - plain) / plain == pytest.approx((groups - 1) / (k + 126))


def test_a_panel_takes_all_shifts_and_the_skew_again():
    problem = problem_of(32, 32, 1000)
    assert array_cycles("tender", problem, groups=4, tile_k=400) == [
        depth + 3 + 2 * 31 for depth in (400, 400, 200)
    ]


def tiles_of(program, name):
    return next(b for b in program.buffers if b.name == name)


def expected_bytes(program, problem, chunk_rows, x_bits, w_bits, form):
    """Return the closed forms of the kernels' docstrings, tensor by tensor.

    form: what a grouped kernel was asked for, its bias among it; None for others.
    """
    m, n, k = problem.m, problem.n, problem.k
    chunks = [min(chunk_rows, m - start) for start in range(0, m, chunk_rows)]
    tile = tiles_of(program, "codes")
    coded = tiles_of(program, "x")
    rows = sum(ceil(chunk / tile.rows) for chunk in chunks)
    code_rows = sum(ceil(chunk / coded.rows) for chunk in chunks)
    tiles_n = ceil(n / tiles_of(program, "weights").cols)
    products = program.num_items - code_rows * ceil(k / coded.cols)
    blocks = tiles_n if tile.cols < k else products // rows
    ranges = {"x_reciprocal": 4 * code_rows * k}
    if form:
        ranges = range_bytes(form, 4 * code_rows * k, 4 * m * (1 + products // rows))
        ranges |= {
            "order": 4 * rows * k * blocks,
            "bias": 4 * rows * n,
            "x_bias": 4 * code_rows * k,
        }
    return ranges | {
        "x": 2 * m * k,
        "x_codes": m * k * x_bits // 8 * (1 + blocks),
        "w_codes": rows * n * k * w_bits // 8,
        "scale": 4 * rows * n,
        "y": 2 * m * n,
    }


sizes = st.integers(1, 150)
even = st.integers(1, 400).map(lambda half: 2 * half)
bits = st.sampled_from([4, 8])


def range_bytes(form, row_bytes, scale_bytes):
    """Return what is moved for the ranges: rows of numbers per channel, and scales of rows."""
    if form["base"] == "static":
        return {"x_reciprocal": row_bytes}
    found = {"x_factor": row_bytes, "x_scale": scale_bytes}
    tries = form["candidates"]
    return found if tries == 1 else found | {"x_worth": tries * row_bytes}


forms = st.sampled_from(
    [
        {"base": "static", "use_bias": True},
        {"base": "row", "use_bias": True, "candidates": 1},
        {"base": "row", "use_bias": True, "candidates": 3},
    ]
)


@settings(max_examples=60)
@given(
    st.sampled_from(["tender", "requantized", "quantized"]),
    sizes,
    sizes.map(lambda half: 2 * half),
    even,
    bits,
    bits,
    st.integers(1, 200),
    st.none() | st.integers(8, 64).map(lambda half: 2 * half),
    forms,
)
def test_traffic_is_the_closed_form(name, m, n, k, x_bits, w_bits, chunk_rows, tile, form):
    problem = problem_of(m, n, k)
    own = {"chunk_rows": chunk_rows, **form}
    if name == "quantized":
        own = {"activation_scale": "tensor"}
    program, _ = run(
        name,
        problem,
        None,
        machine=MACHINE,
        activation_bits=x_bits,
        weight_bits=w_bits,
        tile_k=tile,
        tile_n=tile,
        **own,
    )
    is_grouped = name != "quantized"
    chunk = chunk_rows if is_grouped else m
    expected = expected_bytes(program, problem, chunk, x_bits, w_bits, form if is_grouped else None)
    found = {tensor.name: moved_bytes(program, tensor.name) for tensor in program.tensors}
    assert found == expected


@pytest.mark.parametrize("m", [1, 16])
def test_a_decode_step_reads_every_weight_once(m):
    problem = problem_of(m, 4096, 4096)
    program, _ = run("tender", problem, None, machine=MACHINE, weight_bits=4)
    assert moved_bytes(program, "w_codes") == 4096 * 4096 // 2


def test_shifting_beats_draining_every_group():
    problem = problem_of(256, 512, 1024)
    cycles = {}
    for name in ("tender", "requantized", "quantized"):
        program, _ = run(name, problem, None, machine=MACHINE, input="quantized")
        cycles[name] = compiled.schedule(program, MACHINE).cycles
    assert cycles["tender"] < cycles["requantized"]


def vector_elements(name, problem, **settings):
    """Return how many elements the vector unit takes to make the codes of X, op by op."""
    program, _ = run(name, problem, None, machine=MACHINE, **settings)
    phases = np.repeat(program.item_phase, np.diff(program.item_start))
    counts = Counter()
    for op, words, phase in zip(program.op_codes, program.ops, phases, strict=True):
        if phase == 0 and UNIT_OF_OP[op] == Unit.VECTOR:
            counts[Op(op)] += int(words[A] * words[B])
    return counts


def test_the_base_of_a_row_is_one_product_an_element_more_than_a_scale_of_a_row():
    problem = problem_of(48, 32, 200)
    by_row, by_base = (vector_elements(name, problem) for name in ("quantized", "tender"))
    assert by_base - by_row == Counter({Op.MULTIPLY: 48 * 200})
    assert by_row - by_base == Counter()


@pytest.mark.parametrize("tries", [2, 6])
def test_every_candidate_is_encoded_decoded_and_judged(tries):
    """Of every element: two conversions, four products, a difference and a sum along its row."""
    problem = problem_of(48, 32, 200)
    one = vector_elements("tender", problem)
    several = vector_elements("tender", problem, candidates=tries)
    own = {Op.CONVERT: 2, Op.MULTIPLY: 4, Op.ADD: 1, Op.REDUCE: 1}
    for op, each in own.items():
        more = several[op] - one[op]
        # Beside the elements, at most a dozen numbers a row and candidate.
        assert 0 <= more - tries * each * 48 * 200 <= 12 * tries * 48, op
