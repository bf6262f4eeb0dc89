"""outlier_split and smoothquant against their statements, bit by bit where rounding is stated."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.errors import ConfigError, DoesNotFitError, QuantizationError
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_array
from accelsim.program.ops import UNIT_OF_OP, Op, Unit
from accelsim.quantization.calibration import Calibration, Provenance, Sampling
from accelsim.quantization.calibration_file import save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.codes import Quantized, scale_of
from accelsim.quantization.schemes import (
    migration_factors,
    per_column,
    per_row,
    top_channels,
)
from accelsim.quantization.statements import migrated_product, split_product
from accelsim.workload.tensors import GemmTensors
from tests.handmade import changed
from tests.oracle.bounds import gemm_bound
from tests.oracle.linear_statements import linear, uniform_result
from tests.oracle.recorded import moved_bytes, run

ARRAY = "{rows: 64, cols: 64, pipeline_depth_cycles: 2, index_buffer: 64 KiB}"
MACHINE = load_machine("ascend-910b-no-l2", {"int_mac": ARRAY})
SINGLE = np.float32
sides = st.integers(1, 40)
bits = st.sampled_from([4, 8])
seeds = st.integers(0, 2**32)


def split_result(tensors, outliers, activation_bits, weight_bits):
    """Return outlier_split's Y: sums of both kinds in FP32, added, then FP16."""
    x, w = tensors.a, tensors.b
    codes = per_row(np.delete(x, outliers, 1), activation_bits)
    weights = per_column(np.delete(w, outliers, 0), weight_bits)
    values = (codes.codes @ weights.codes).astype(SINGLE)
    values = values * weights.scale.astype(SINGLE) * codes.scale.astype(SINGLE)
    kept = np.zeros_like(values)
    for channel in outliers:
        kept += np.outer(x[:, channel], w[channel])
    return (values + kept).astype(np.float16).astype(SINGLE)


@settings(max_examples=60)
@given(
    sides,
    sides,
    st.integers(2, 60),
    st.floats(0, 0.5),
    bits,
    bits,
    st.sampled_from(["float", "quantized"]),
    st.none() | st.integers(1, 20).map(lambda half: 2 * half),
    seeds,
)
def test_outliers_are_exact_and_the_rest_integers(m, n, k, share, of_x, of_w, given, tile, seed):
    problem, tensors = linear(m, n, k, seed)
    outliers = top_channels(np.abs(tensors.a).max(0), share)
    program, output = run(
        "outlier_split",
        problem,
        tensors,
        machine=MACHINE,
        outlier_share=share,
        activation_bits=of_x,
        weight_bits=of_w,
        input=given,
        tile_m=tile,
        tile_n=tile,
        tile_k=tile,
    )
    assert program.statistics["outlier_fraction"] == len(outliers) / k
    np.testing.assert_array_equal(output, split_result(tensors, outliers, of_x, of_w))


def test_many_outliers_take_several_steps_of_the_cube():
    problem, tensors = linear(20, 12, 500, seed=3)
    outliers = top_channels(np.abs(tensors.a).max(0), 0.6)
    chosen = {"outlier_share": 0.6, "tile_m": 20, "tile_n": 12}
    program, output = run("outlier_split", problem, tensors, machine=MACHINE, **chosen)
    assert np.count_nonzero(program.op_codes == Op.MATMUL) == 3
    np.testing.assert_array_equal(output, split_result(tensors, outliers, 8, 8))


def test_the_statement_in_float64_is_within_rounding():
    problem, tensors = linear(30, 20, 64, seed=5)
    _, output = run("outlier_split", problem, tensors, machine=MACHINE, outlier_magnitude=60)
    outliers = np.flatnonzero(np.abs(tensors.a).max(0) >= 60)
    assert 0 < len(outliers) < 8
    x, w, others = tensors.a.copy(), tensors.b.copy(), np.delete(np.arange(64), outliers)
    x[:, others], w[others] = per_row(x[:, others], 8).values, per_column(w[others], 8).values
    # Fewer roundings in FP32 than a product over all channels has: one an outlier and 4 more.
    bound = gemm_bound(x, w, Format.FP32, Format.FP16)
    error = np.abs(output - split_product(tensors.a, tensors.b, outliers, 8))
    assert (error <= bound).all()


def test_outliers_in_high_precision_lose_less_than_all_in_integers():
    problem, tensors = linear(64, 32, 128, seed=6)
    exact = tensors.a.astype(np.float64) @ tensors.b
    errors = [
        np.linalg.norm(run(name, problem, tensors, machine=MACHINE)[1] - exact)
        for name in ("outlier_split", "smoothquant", "quantized")
    ]
    assert errors == sorted(errors)


def test_both_arrays_work_at_the_same_time():
    problem, _ = linear(256, 256, 1024, seed=0)
    program, _ = run("outlier_split", problem, None, machine=MACHINE, outlier_share=0.2)
    schedule = compiled.schedule(program, MACHINE)
    units = np.array(UNIT_OF_OP)[program.op_codes]
    cube, array = (np.flatnonzero(units == unit) for unit in (Unit.CUBE, Unit.INT_MAC))
    overlaps = [
        np.any(
            (schedule.start[array] < schedule.end[op]) & (schedule.start[op] < schedule.end[array])
        )
        for op in cube
    ]
    assert any(overlaps)
    np.testing.assert_array_equal(reference.schedule(program, MACHINE).start, schedule.start)


@settings(max_examples=40)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(8, 400),
    st.floats(0.02, 0.6),
    st.integers(4, 40).map(lambda half: 2 * half),
)
def test_traffic_is_the_closed_form(m, n, k, share, tile):
    problem, _ = linear(1, 1, 1, seed=0)
    problem = problem.model_copy(update={"m": m, "n": n, "k": k})
    chosen = {"outlier_share": share, "tile_m": tile, "tile_n": tile}
    program, _ = run("outlier_split", problem, None, machine=MACHINE, **chosen)
    outliers = round(share * k)
    if not outliers:
        assert "x_outliers" not in [tensor.name for tensor in program.tensors]
        return
    row_tiles, tiles_n = ceil(m / tile), ceil(n / tile)
    blocks = np.count_nonzero(program.item_phase == program.item_phase[-1]) // row_tiles
    reads = tiles_n if outliers > 128 else blocks
    assert moved_bytes(program, "x_outliers") == reads * m * outliers * 2
    assert moved_bytes(program, "w_outliers") == row_tiles * outliers * n * 2
    assert moved_bytes(program, "w_codes") == row_tiles * (k - outliers) * n
    assert moved_bytes(program, "x") == m * (k - outliers) * 2


@settings(max_examples=60)
@given(
    sides,
    sides,
    st.integers(1, 60),
    st.sampled_from(["tensor", "row"]),
    st.floats(0, 1),
    bits,
    bits,
    seeds,
)
def test_smoothquant_is_uniform_after_the_migration(m, n, k, shared, strength, of_x, of_w, seed):
    problem, tensors = linear(m, n, k, seed)
    _, output = run(
        "smoothquant",
        problem,
        tensors,
        machine=MACHINE,
        activation_scale=shared,
        strength=strength,
        activation_bits=of_x,
        weight_bits=of_w,
    )
    peaks = np.abs(tensors.a).max(0)
    factors = migration_factors(peaks, tensors.b, strength)
    x, w = round_array(tensors.a / factors, problem.dtype), tensors.b * factors[:, None]
    codes = per_row(x, of_x)
    if shared == "tensor":
        step = scale_of((peaks / factors).max(), of_x)
        reciprocal = SINGLE(1) / step.astype(SINGLE)
        largest = 2 ** (of_x - 1) - 1
        steps = np.clip(np.rint(x * reciprocal), -largest - 1, largest).astype(np.int32)
        codes = Quantized(steps, step)
    expected = uniform_result(codes, per_column(w, of_w), shared == "row")
    np.testing.assert_array_equal(output, expected)


def test_smoothquant_is_near_its_statement_in_float64():
    """Rounding X to FP16 after the division can move a code by one where it was close to a tie."""
    problem, tensors = linear(30, 20, 64, seed=5)
    _, output = run("smoothquant", problem, tensors, machine=MACHINE)
    factors = migration_factors(np.abs(tensors.a).max(0), tensors.b)
    statement = migrated_product(tensors.a, tensors.b, factors, 8)
    x, w = per_row(tensors.a / factors, 8), per_column(tensors.b * factors[:, None], 8)
    fraction = np.abs(tensors.a / factors / x.scale)
    # FP16 moves a value of up to 127 steps by up to 127 / 2^11 of one, and the step by as much.
    is_near_tie = np.abs(fraction % 1 - 0.5) < 2 * 127 * 2.0**-11
    flips = (is_near_tie * x.scale) @ np.abs(w.values)
    bound = gemm_bound(np.abs(x.values), np.abs(w.values), Format.FP32, Format.FP16)
    scales = 2.0**-11 * np.abs(x.values) @ np.abs(w.values)
    assert (np.abs(output - statement) <= bound + flips + scales).all()


def test_smoothquant_costs_what_uniform_integers_cost():
    problem, _ = linear(100, 70, 90, seed=0)
    for shared in ("tensor", "dynamic_tensor", "row"):
        programs = [
            run(name, problem, None, machine=MACHINE, activation_scale=shared)[0]
            for name in ("smoothquant", "quantized")
        ]
        np.testing.assert_array_equal(programs[0].ops, programs[1].ops)


@pytest.fixture
def calibration(tmp_path):
    """A file in which channel 7 has the largest values, 40, and all others 1."""
    options, samples = GroupOptions(), np.ones((1, 4, 10), SINGLE)
    samples[..., 7] = 40
    provenance = Provenance(model="toy", texts=(), sampling=Sampling(), options=options)
    path = tmp_path / "toy.safetensors"
    groups = {"layer0.qkv_input": channel_groups(samples, options)}
    save_calibration(Calibration(provenance, groups), path)
    return str(path)


@pytest.mark.parametrize("name", ["outlier_split", "smoothquant"])
def test_the_calibration_says_which_channels_are_large(name, calibration):
    problem, tensors = linear(8, 6, 10, seed=4)
    tensors = tensors._replace(linear="layer0.q", model="toy")
    chosen = {"calibration": calibration}
    if name == "outlier_split":
        chosen["outlier_share"] = 0.1
    _, output = run(name, problem, tensors, machine=MACHINE, **chosen)
    if name == "outlier_split":
        expected = split_result(tensors, np.array([7]), 8, 8)
    else:
        peaks = np.where(np.arange(10) == 7, 40, 1).astype(SINGLE)
        factors = migration_factors(peaks, tensors.b)
        codes = per_row(round_array(tensors.a / factors, problem.dtype), 8)
        expected = uniform_result(codes, per_column(tensors.b * factors[:, None], 8), True)
    np.testing.assert_array_equal(output, expected)
    with pytest.raises(QuantizationError, match="found tensors from elsewhere"):
        run(name, problem, tensors._replace(linear=None), machine=MACHINE, **chosen)


@pytest.mark.parametrize("unit", ["cube", "int_mac"])
def test_both_arrays_must_be_there(unit):
    machine = changed(MACHINE, unit, lambda _: None)
    problem, _ = linear(4, 4, 4, seed=0)
    with pytest.raises(DoesNotFitError) as refusal:
        run("outlier_split", problem, None, machine=machine)
    assert str(refusal.value) == (
        f"machine ascend-910b-no-l2 has no {unit}, which outlier_split on drawn uses; "
        f"give machine.{unit} to add one"
    )


def test_something_must_be_left_for_the_integers():
    problem, tensors = linear(4, 4, 6, seed=0)
    with pytest.raises(QuantizationError) as refusal:
        run("outlier_split", problem, tensors, machine=MACHINE, outlier_magnitude=1e-6)
    assert str(refusal.value) == (
        "outlier_split on drawn: found all 6 channels to be outliers; allowed: fewer, by a "
        "smaller outlier_share or a larger outlier_magnitude"
    )


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("outlier_split", "outlier_share", 1),
        ("outlier_split", "outlier_share", -0.1),
        ("outlier_split", "outlier_magnitude", 0),
        ("smoothquant", "strength", 1.5),
        ("smoothquant", "activation_scale", "channel"),
    ],
)
def test_parameters_out_of_range_are_refused(name, key, value):
    problem, _ = linear(4, 4, 4, seed=0)
    with pytest.raises(ConfigError, match=key):
        run(name, problem, None, machine=MACHINE, **{key: value})


@pytest.mark.parametrize("name", ["outlier_split", "smoothquant"])
@pytest.mark.parametrize(("operand", "what"), [("a", "activations"), ("b", "weights")])
def test_values_that_are_not_finite_are_refused(name, operand, what):
    problem, tensors = linear(4, 5, 6, seed=0)
    getattr(tensors, operand)[1, 2] = np.nan
    with pytest.raises(QuantizationError, match=f"{what}: found 1 of"):
        run(name, problem, GemmTensors(tensors.a, tensors.b), machine=MACHINE)
