"""The mx kernel against its statements, bit by bit, and against float64 within derived bounds."""

import warnings
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.engine.durations import work_of
from accelsim.errors import AccelsimError, AccumulatorWarning
from accelsim.kernels.linear.mx.mx import Mx
from accelsim.loading import load_machine
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import decode_blocks
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit
from tests.handmade import changed
from tests.oracle import mx_statements as stated
from tests.oracle.bounds import roundoff, underflow
from tests.oracle.linear_statements import linear
from tests.oracle.recorded import moved_bytes, run

FLOATING = [each for each in BlockFormat if not each.layout.element.is_integer]
NARROW = sorted({each.layout.element for each in FLOATING})
RATES = {f"cube.rates.{fmt}": 1 for fmt in (*NARROW, "bf16", "fp16")}
PLAIN = load_machine("edge-npu", RATES | {"scratchpad.capacity": "4 MiB"}, needs_costs=False)
SCALING = changed(PLAIN, "cube.block_scales", lambda _: {"e8m0": 32, "fp8_e4m3": 16, "fp32": 128})
ARRAY = load_machine("tender-asic", {"scratchpad.capacity": "4 MiB"})
ALIGNING = changed(ARRAY, "int_mac.can_align", lambda _: True)

sides = st.integers(1, 40)
depths = st.integers(1, 300)
tiles = st.none() | st.integers(1, 40)
steps = st.none() | st.sampled_from([128, 256])
formats = st.sampled_from(FLOATING)
inputs = st.sampled_from(["float", "quantized"])
seeds = st.integers(0, 2**32)


@settings(max_examples=60)
@given(sides, sides, depths, formats, formats, inputs, tiles, steps, st.booleans(), seeds)
def test_the_cube_scales_sums_of_blocks(m, n, k, of_x, of_w, given_as, tile, step, is_inside, seed):
    problem, tensors = linear(m, n, k, seed)
    _, output = run(
        "mx",
        problem,
        tensors,
        machine=SCALING if is_inside else PLAIN,
        activations=of_x,
        weights=of_w,
        input=given_as,
        tile_m=tile,
        tile_k=step,
    )
    statement = stated.in_cube if is_inside else stated.on_the_way_out
    np.testing.assert_array_equal(output, statement(tensors, of_x, of_w))


@settings(max_examples=25)
@given(sides, sides, depths, formats, formats, inputs, seeds)
def test_scales_may_be_such_that_nothing_is_clamped(m, n, k, of_x, of_w, given_as, seed):
    problem, tensors = linear(m, n, k, seed)
    chosen = {"activations": of_x, "weights": of_w, "input": given_as, "rounds_up": True}
    _, output = run("mx", problem, tensors, machine=SCALING, **chosen)
    np.testing.assert_array_equal(output, stated.in_cube(tensors, of_x, of_w, rounds_up=True))


@settings(max_examples=60)
@given(
    sides,
    sides,
    depths,
    inputs,
    tiles,
    st.none() | st.sampled_from([32, 96]),
    st.none() | st.integers(-3, 6),
    seeds,
)
def test_the_array_aligns_sums_of_blocks(m, n, k, given_as, tile, step, guard_bits, seed):
    problem, tensors = linear(m, n, k, seed)
    program, output = run(
        "mx",
        problem,
        tensors,
        machine=ALIGNING,
        input=given_as,
        tile_m=tile,
        tile_k=step,
        guard_bits=guard_bits,
    )
    used = program.parameters["guard_bits"]
    np.testing.assert_array_equal(output, stated.in_array(tensors, used))
    assert program.overflows == 0


@settings(max_examples=30)
@given(sides, sides, depths, inputs, tiles, seeds)
def test_an_array_that_cannot_align_drains_blocks(m, n, k, given_as, tile, seed):
    problem, tensors = linear(m, n, k, seed)
    settings = {"input": given_as, "tile_m": tile}
    _, output = run("mx", problem, tensors, machine=ARRAY, **settings)
    both = (BlockFormat.MXINT8, BlockFormat.MXINT8)
    np.testing.assert_array_equal(output, stated.on_the_way_out(tensors, *both))


def arithmetic_bound(magnitude, block, blocks, output=Format.BF16):
    """Error of a sum of products of this magnitude: each sum of a block, its two scales, the sums
    of blocks and the product with the tensor scales round in FP32, then the output."""
    chain = (block + blocks + 3) * roundoff(Format.FP32) + roundoff(output)
    return magnitude * np.expm1(chain) + underflow(output) + 2 * blocks * underflow(Format.FP32)


@settings(max_examples=25)
@given(sides, sides, depths, formats, formats, st.booleans(), seeds)
def test_the_output_is_near_float64(m, n, k, of_x, of_w, is_inside, seed):
    """Near the product of what elements stand for; and of what they were, as far as they moved."""
    problem, tensors = linear(m, n, k, seed)
    machine = SCALING if is_inside else PLAIN
    _, output = run("mx", problem, tensors, machine=machine, activations=of_x, weights=of_w)
    x, w = (decode_blocks(each) for each in stated.operands(tensors, of_x, of_w))
    block = min(of_x.layout.block, of_w.layout.block)
    bound = arithmetic_bound(np.abs(x) @ np.abs(w), block, ceil(k / block))
    assert (np.abs(output - x @ w) <= bound).all()
    bound += np.abs(x - tensors.a) @ np.abs(tensors.b) + np.abs(x) @ np.abs(w - tensors.b)
    assert (np.abs(output - Mx.oracle(problem, tensors)) <= bound).all()


@settings(max_examples=25)
@given(sides, sides, depths, st.none() | st.integers(-3, 6), seeds)
def test_what_alignment_loses_is_half_a_unit_a_block(m, n, k, guard_bits, seed):
    problem, tensors = linear(m, n, k, seed)
    program, output = run("mx", problem, tensors, machine=ALIGNING, guard_bits=guard_bits)
    encoded = stated.operands(tensors, BlockFormat.MXINT8, BlockFormat.MXINT8)
    x, w = (decode_blocks(each) for each in encoded)
    row, column = encoded[0].scales.max(1, keepdims=True), encoded[1].scales.max(0, keepdims=True)
    unit = row.astype(np.float64) * column * 2.0 ** (-12 - program.parameters["guard_bits"])
    lost = ceil(k / 32) / 2 * unit
    rounded = (np.abs(x @ w) + lost) * np.expm1(3 * roundoff(Format.FP32) + roundoff(Format.BF16))
    assert (np.abs(output - x @ w) <= lost + rounded + underflow(Format.BF16)).all()


def test_guard_bits_are_what_the_accumulator_has_left():
    """127^2 x 4096 is 2^25.98: 5 bits are left of 31, and none of 26."""
    problem, tensors = linear(2, 2, 4096, seed=1)
    for bits, expected in ((32, 5), (27, 0), (24, -3)):
        machine = changed(ALIGNING, "int_mac.accumulator_bits", lambda _, bits=bits: bits)
        tensors.a[:], tensors.b[:] = 1, 1
        program, output = run("mx", problem, tensors, machine=machine)
        assert program.parameters["guard_bits"] == expected
        assert program.overflows == 0
        # 1 is 64 / 64: a sum of 32 products is 2^17, a block a power of two.
        assert (output == 4096).all()


def test_sums_beyond_the_accumulator_are_warned_of_and_counted():
    problem, tensors = linear(2, 2, 4096, seed=1)
    tensors.a[:], tensors.b[:] = 1.98, 1.98
    with pytest.warns(AccumulatorWarning) as caught:
        program, _ = run("mx", problem, tensors, machine=ALIGNING, guard_bits=10)
    (warning,) = caught
    assert str(warning.message) == (
        f"mx on {problem.name}: sums of int8 x int8 products can reach 2^36.0, an accumulator of "
        f"machine {ALIGNING.name} holds less than 2^31; guard_bits of 5 or fewer, or "
        "int_mac.overflow: saturate would help"
    )
    assert program.statistics["accumulator_overflows"] == program.overflows > 0
    # 127^2 x 4096 x 2^5 = 2^30.98 fits, and so nothing is said.
    program, _ = run("mx", problem, tensors, machine=ALIGNING, guard_bits=5)
    assert program.statistics["accumulator_overflows"] == 0


@pytest.mark.parametrize(("bits", "fits"), [(20, True), (19, False)])
def test_sums_of_a_block_that_the_vector_unit_scales(bits, fits):
    """32 products of 127 x 127 are 516,128, less than 2^19."""
    problem, tensors = linear(2, 2, 64, seed=1)
    tensors.a[:], tensors.b[:] = 1.98, 1.98
    machine = changed(load_machine("tender-asic"), "int_mac.accumulator_bits", lambda _: bits)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program, _ = run("mx", problem, tensors, machine=machine)
    assert "mxint8" in program.parameters["activations"]
    assert (program.statistics["accumulator_overflows"] == 0) is fits
    assert (not caught) is fits


@settings(max_examples=40)
@given(
    *[st.integers(1, 150)] * 2,
    st.integers(1, 300),
    formats,
    formats,
    st.integers(1, 60),
    st.sampled_from([4, 16, 128]),
    st.sampled_from([128, 256]),
)
def test_traffic_is_the_closed_form(m, n, k, of_x, of_w, tile_m, tile_n, tile_k):
    problem, _ = linear(m, n, k, seed=0)
    choices = {"tile_m": tile_m, "tile_n": tile_n, "tile_k": tile_k}
    chosen = {"activations": of_x, "weights": of_w, **choices}
    program, _ = run("mx", problem, None, machine=SCALING, **chosen)
    x, w = of_x.layout, of_w.layout
    rows, columns = ceil(m / tile_m), [min(tile_n, n - col) for col in range(0, n, tile_n)]
    # Every step has whole blocks, and a row of it whole bytes, but for the last ones.
    x_row = sum(ceil(min(tile_k, k - at) * x.element.bits / 8) for at in range(0, k, tile_k))
    x_scales = m * ceil(k / x.block) * x.scale.bits // 8
    across = 128 if of_w == BlockFormat.FP8_BLOCK128 else 1
    w_rows = k * sum(ceil(cols * w.element.bits / 8) for cols in columns)
    w_scales = ceil(k / w.block) * sum(ceil(cols / across) for cols in columns)
    stored = m * ceil(k * x.element.bits / 8)
    assert moved_bytes(program, "x") == m * k * 2
    # Encoding stores them once, every column tile loads them.
    assert moved_bytes(program, "x_elements") - len(columns) * m * x_row in (stored, m * x_row)
    assert moved_bytes(program, "x_scales") == (len(columns) + 1) * x_scales
    assert moved_bytes(program, "w_elements") == rows * w_rows
    assert moved_bytes(program, "w_scales") == rows * w_scales * w.scale.bits // 8
    assert moved_bytes(program, "y") == m * n * 2


@pytest.mark.parametrize(("m", "n", "k"), [(32, 64, 256), (33, 70, 300)])
def test_cycles_of_the_cube_are_those_of_its_tiles(m, n, k):
    """A tile of 16 x 16 x 16 a cycle; the scales take none."""
    machine = changed(SCALING, "cube.issue_cycles", lambda _: 0)
    problem, _ = linear(m, n, k, seed=0)
    choices = {"tile_m": 16, "tile_n": 32, "tile_k": 128, "input": "quantized"}
    program, _ = run("mx", problem, None, machine=machine, activations="mxfp4", **choices)
    cube = machine.cube
    sides = [
        sum(ceil(min(tile, size - at) / own) for at in range(0, size, tile))
        for size, tile, own in ((m, 16, cube.tile_m), (n, 32, cube.tile_n), (k, 128, cube.tile_k))
    ]
    busy = work_of(program, machine).busy_cycles
    assert busy[program.units == Unit.CUBE].sum() == np.prod(sides)


def test_cycles_of_the_array_are_its_channels_and_blocks():
    problem, _ = linear(64, 64, 512, seed=0)
    choices = {"tile_m": 32, "tile_n": 32, "tile_k": 512}
    program, _ = run("mx", problem, None, machine=ALIGNING, **choices)
    busy = work_of(program, ALIGNING).busy_cycles
    assert busy[program.units == Unit.INT_MAC].tolist() == [512 + 512 // 32 + 62] * 4


@pytest.mark.parametrize(
    "machine",
    [SCALING, PLAIN, ALIGNING, ARRAY],
    ids=["in the cube", "out of the cube", "in the array", "out of the array"],
)
def test_both_engines_agree(machine):
    problem, _ = linear(70, 40, 200, seed=0)
    program, _ = run("mx", problem, None, machine=machine, tile_m=32, tile_n=32, tile_k=64)
    slow, fast = reference.schedule(program, machine), compiled.schedule(program, machine)
    np.testing.assert_array_equal(slow.start, fast.start)
    np.testing.assert_array_equal(slow.end, fast.end)


def refusal(machine=SCALING, problem=None, tensors=None, **settings):
    given = problem or linear(4, 200, 300, seed=0)[0]
    with pytest.raises(AccelsimError) as error:
        run("mx", given, tensors, machine=machine, **settings)
    return str(error.value)


def test_steps_are_whole_blocks():
    assert refusal(tile_k=48) == (
        "mx on drawn: found tile_k = 48, but 32 elements along k share a scale in mxfp8_e4m3 x "
        "mxfp8_e4m3; allowed: multiples of 32"
    )
    assert refusal(tile_k=32, weights="fp8_block128") == (
        "mx on drawn: found tile_k = 32, but 128 elements along k share a scale in mxfp8_e4m3 x "
        "fp8_block128; allowed: multiples of 128"
    )


def test_column_tiles_are_whole_blocks_too():
    assert refusal(tile_n=48, weights="fp8_block128") == (
        "mx on drawn: found tile_n = 48, but 128 columns of fp8_block128 share a scale; allowed: "
        "divisors and multiples of 128"
    )


def test_a_format_that_no_unit_has_is_named():
    assert refusal(load_machine("ascend-910b"), activations="nvfp4") == (
        "machine ascend-910b: its cube unit has no fp4_e2m1, which mx on drawn uses for nvfp4 x "
        "nvfp4; it has fp32, bf16, fp16, int8, int4"
    )
    narrow = changed(ARRAY, "int_mac.formats", lambda _: (Format.INT4,))
    assert refusal(narrow) == (
        "machine tender-asic: its int_mac unit has no int8, which mx on drawn uses for mxint8 x "
        "mxint8; it has int4"
    )


def test_integers_beside_floating_point_numbers_are_refused():
    assert refusal(activations="mxint8", weights="mxfp4") == (
        "mx on drawn: found activations = mxint8 and weights = mxfp4, allowed: elements that are "
        "integers in both, for an integer array, or floating-point numbers in both"
    )


def test_machines_without_the_unit_are_refused():
    assert "has no int_mac, which mx on drawn uses" in refusal(activations="mxint8")
    assert "has no cube, which mx on drawn uses" in refusal(ARRAY, activations="mxfp4")


def test_integer_problems_and_numbers_that_are_not_finite_are_refused():
    integers = linear(4, 4, 4, seed=0)[0].model_copy(update={"dtype": Format.INT8})
    assert refusal(problem=integers) == (
        "mx on drawn: found dtype int8, allowed: fp32, bf16, fp16, fp8_e4m3, fp8_e5m2"
    )
    problem, tensors = linear(4, 4, 4, seed=0)
    tensors.a[0, 0] = np.nan
    assert refusal(problem=problem, tensors=tensors) == (
        "mx on drawn: activations: found 1 of 16 infinite or NaN, allowed: finite numbers"
    )


def test_the_library_of_defaults_takes_the_format_of_the_machine():
    problem, _ = linear(8, 8, 64, seed=0)
    for machine, expected in ((SCALING, "mxfp8_e4m3"), (ALIGNING, "mxint8")):
        program, _ = run("mx", problem, None, machine=machine)
        assert program.parameters["activations"] == program.parameters["weights"] == expected
