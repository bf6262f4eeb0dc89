"""SageAttention against a second program, bit for bit, against float64, and its bytes and units."""

import math
import warnings
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.errors import AccumulatorWarning, DoesNotFitError, QuantizationError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.shifted.beta import solve_pseudo_average
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.numerics.metrics import compare
from accelsim.numerics.rounding import round_array
from accelsim.program.ops import Op, Unit
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors, load_tensors
from tests.oracle.machines import any_format_machine
from tests.oracle.recorded import moved_bytes, run

MACHINE = any_format_machine()
SINGLE = np.float32
GRANULARITIES = ("block", "thread", "token")
exponential = np.vectorize(math.exp)
ARRAY = {
    "rows": 16,
    "cols": 16,
    "formats": ["int4", "int8"],
    "accumulator_bits": 32,
    "overflow": "wrap",
    "can_shift": True,
    "pipeline_depth_cycles": 2,
    "index_buffer": "4 KiB",
}


def problem_of(q_len=45, kv_len=75, *, heads=1, group=1, dim=16, **keys):
    sizes = {"q_heads": heads * group, "kv_heads": heads, "head_dim": dim}
    lengths = {"q_len": q_len, "kv_len": kv_len}
    return AttentionProblem.model_validate(
        {"kind": "attention", "name": "p"} | sizes | lengths | keys
    )


def normal_tensors(problem, seed=0, mean=0.0):
    rng = np.random.default_rng(seed)
    shapes = problem.input_shapes.values()
    return AttentionTensors(
        *(round_array(rng.standard_normal(shape) + mean, problem.dtype) for shape in shapes)
    )


def sage(problem, tensors, machine=MACHINE, **settings):
    return run("sage", problem, tensors, machine=machine, **settings)


def column_sums(x):
    """FP32 sums of columns: the lower half is added to the upper until one row is left."""
    while len(x) > 1:
        half = (len(x) + 1) // 2
        x = np.concatenate([x[: len(x) - half] + x[half:], x[len(x) - half : half]])
    return x


def groups_of(rows, granularity, *, are_keys):
    """What shares a scale, as a number for each row of a tile."""
    row = np.arange(rows)
    if granularity == "thread":
        return row % 8 // 2 if are_keys else row // 32 * 8 + row % 8
    return row if granularity == "token" else 0 * row


def coded(wide, bits, granularity, *, are_keys):
    """Codes of the rows of a tile, and the scale of each row."""
    group, peaks = groups_of(len(wide), granularity, are_keys=are_keys), np.abs(wide).max(axis=1)
    shared = np.array([peaks[group == own].max() for own in group], SINGLE)[:, None]
    scale = np.maximum(shared / SINGLE(2 ** (bits - 1) - 1), np.finfo(SINGLE).tiny)
    return np.rint(wide * (SINGLE(1) / scale)), scale


def product_in_order(weights, values):
    """Sums over keys one after the other, every partial sum rounded to FP32."""
    total = np.zeros((len(weights), values.shape[1]), SINGLE)
    for i, value in enumerate(values):
        total = total + weights[:, i : i + 1] * value
    return total


class Statement:
    """One head of SageAttention in NumPy."""

    def __init__(self, q, k, v, parts, **options):
        self.q, self.k, self.v, self.parts = q, k, v, parts
        self.qk = options.get("qk", "int8")
        self.fp8 = options.get("pv", "fp16") == "fp8"
        self.granularity = options.get("granularity", "block")
        self.smooths = options.get("smoothing", "k") == "k"
        self.accumulate = Format(options.get("accumulate", "fp32"))
        self.tile_q, self.tile_k = options["tile_q"], options["tile_k"]

    def key_tiles(self):
        bits, k = int(self.qk.removeprefix("int")), self.k
        starts = range(0, len(k), self.tile_k)
        tiles = [k[start : start + self.tile_k] for start in starts]
        if self.smooths:
            each = ceil(len(tiles) / self.parts)
            sums = []
            for first in range(0, len(tiles), each):
                own = column_sums(tiles[first])
                for tile in tiles[first + 1 : first + each]:
                    own = own + column_sums(tile)
                sums.append(own)
            mean = column_sums(np.concatenate(sums)) * SINGLE(1 / len(k))
            tiles = [tile - mean for tile in tiles]
        return [coded(tile, bits, self.granularity, are_keys=True) for tile in tiles]

    def values(self):
        if not self.fp8:
            return round_array(self.v, Format.FP16), SINGLE(1)
        peak = np.abs(self.v).max(axis=0)
        scale = np.maximum(peak * SINGLE(1 / 448), np.finfo(SINGLE).tiny)
        return round_array(self.v * (SINGLE(1) / scale), Format.FP8_E4M3), scale

    def output(self, causal, fmt):
        keys, (values, v_scale) = self.key_tiles(), self.values()
        bits, rows = int(self.qk.removeprefix("int")), []
        for first in range(0, len(self.q), self.tile_q):
            wide = self.q[first : first + self.tile_q] * SINGLE(1 / np.sqrt(self.q.shape[1]))
            queries = coded(wide, bits, self.granularity, are_keys=False)
            seen = first + len(wide) + len(self.k) - len(self.q) if causal else len(self.k)
            count = ceil(seen / self.tile_k)
            rows.append(self.query_tile(queries, keys[:count], values, first, causal))
        output = np.concatenate([out for out, _ in rows]) * v_scale
        total = np.concatenate([total for _, total in rows])
        return round_array(output / total, fmt)

    def query_tile(self, queries, keys, values, first, causal):
        (q, q_scale), hidden = queries, len(self.k) - len(self.q)
        largest = np.full((len(q), 1), -np.inf, SINGLE)
        total, output = np.zeros((len(q), 1), SINGLE), np.zeros((len(q), self.v.shape[1]), SINGLE)
        weight_format = Format.FP8_E4M3 if self.fp8 else Format.FP16
        for j, (k, k_scale) in enumerate(keys):
            start = j * self.tile_k
            x = (q.astype(np.int64) @ k.astype(np.int64).T).astype(SINGLE)
            if self.granularity == "block":
                x = x * (k_scale[0, 0] * q_scale[0, 0])
            else:
                x = x * k_scale.T * q_scale
            if causal:
                row = first + np.arange(len(q))[:, None]
                x[start + np.arange(len(k)) > row + hidden] = -np.inf
            new = np.maximum(largest, x.max(axis=1, keepdims=True))
            rescale = exponential((largest - new).astype(float)).astype(SINGLE)
            shifted = new + SINGLE(-math.log(448)) if self.fp8 else new
            x = exponential((x - shifted).astype(float)).astype(SINGLE)
            total = total * rescale + column_sums(x.T).T
            weights = round_array(x, weight_format)
            product = product_in_order(weights, values[start : start + self.tile_k])
            output = output * rescale + round_array(product, self.accumulate)
            largest = new
        return output, total


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"granularity": "thread", "pv": "fp8"},
        {"granularity": "token", "qk": "int4"},
        {"granularity": "thread", "qk": "int4", "accumulate": "fp16"},
        {"smoothing": "none", "pv": "fp8"},
    ],
)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_every_bit_is_as_specified(options, causal, dtype):
    problem = problem_of(heads=2, group=2, causal=causal, dtype=dtype)
    tensors = normal_tensors(problem, mean=1)
    choices = options | {"tile_q": 40, "tile_k": 18}
    parts = max(1, MACHINE.cores * MACHINE.items_in_flight // 2)
    expected = []
    for head, q in enumerate(tensors.q):
        k, v = tensors.k[head // 2], tensors.v[head // 2]
        own = Statement(q, k, v, parts, **choices)
        expected.append(own.output(causal, problem.output_dtype))
    _, output = sage(problem, tensors, **choices)
    np.testing.assert_array_equal(output, np.concatenate(expected))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["fp16", "fp8"]),
    st.sampled_from(GRANULARITIES),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**32),
)
def test_who_makes_the_codes_changes_no_bit(q_len, kv_len, pv, granularity, tile_q, tile_k, seed):
    problem = problem_of(q_len, kv_len, group=2)
    tensors = normal_tensors(problem, seed)
    choices = {"pv": pv, "granularity": granularity, "tile_q": tile_q, "tile_k": tile_k}
    made, here = sage(problem, tensors, **choices)
    cached, before = sage(problem, tensors, shift="cached", **choices)
    np.testing.assert_array_equal(here, before)
    assert cached.num_items < made.num_items


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(GRANULARITIES), st.integers(0, 99))
def test_codes_are_the_only_rounding_that_matters(q_len, kv_len, granularity, seed):
    """Codes are off by half a step at most, so scores by (|q|_1 s_k + |k|_1 s_q) / 2 and s_q s_k d
    / 4, and an output by twice that over the range of V: a softmax moves by e^(2 e) - 1 at most.
    """
    problem = problem_of(q_len, kv_len, dtype="fp32")
    tensors = normal_tensors(problem, seed)
    _, output = sage(problem, tensors, granularity=granularity)
    q, k = np.abs(tensors.q / 4), np.abs(tensors.k - tensors.k.mean(axis=1))
    steps = q.max() / 127, k.max() / 127
    error = (q.sum(-1).max() * steps[1] + k.sum(-1).max() * steps[0]) / 2 + 4 * steps[0] * steps[1]
    largest = np.abs(tensors.v).max()
    bound = largest * np.expm1(2 * error) + largest * 2.0**-9
    assert np.abs(output - softmax_attention(problem, tensors)).max() <= bound


def test_a_mean_of_keys_is_not_seen():
    """What all keys share moves all scores of a row alike; without smoothing it takes the codes."""
    problem = problem_of(dim=64, dtype="fp32")
    tensors = normal_tensors(problem)
    shifted = tensors._replace(k=tensors.k + SINGLE(64))
    exact = softmax_attention(problem, tensors)
    errors = {
        (smoothing, moved): compare(
            sage(problem, each, smoothing=smoothing)[1], exact
        ).relative_rmse
        for smoothing in ("k", "none")
        for moved, each in (("no", tensors), ("yes", shifted))
    }
    assert errors["k", "yes"] < 2 * errors["k", "no"]
    assert errors["none", "yes"] > 5 * errors["k", "yes"]


@pytest.mark.parametrize("source", ["uniform", "hybrid"])
@pytest.mark.parametrize("pv", ["fp16", "fp8"])
def test_scores_that_overflow_in_fp16_do_not_here(source, pv):
    problem = problem_of(64, 128, dim=128, tensors={"source": source, "mean": 30, "amplitude": 5})
    tensors = load_tensors(problem, Path())
    _, lost = run("flash", problem, tensors, machine=MACHINE, precision="fp16_fp32")
    _, output = sage(problem, tensors, pv=pv)
    assert not np.isfinite(lost).all()
    accuracy = compare(output, softmax_attention(problem, tensors))
    assert accuracy.nonfinite_fraction == 0
    assert accuracy.relative_rmse < 0.1


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["int8", "int4"]),
    st.sampled_from(["fp16", "fp8"]),
    st.sampled_from(GRANULARITIES),
    st.booleans(),
    st.integers(1, 40),
    st.integers(9, 40),
    st.sampled_from(["once", "cached"]),
)
def test_traffic_is_the_closed_form(
    q_len, kv_len, qk, pv, granularity, causal, tile_q, tile_k, shift
):
    causal = causal and q_len <= kv_len
    problem = problem_of(q_len, kv_len, heads=2, group=2, causal=causal, batch=2)
    choices = {"qk": qk, "pv": pv, "granularity": granularity, "shift": shift}
    program, _ = sage(problem, None, tile_q=tile_q, tile_k=tile_k, **choices)
    dim, heads, kv_heads, is_made = 16, 8, 4, shift == "once"
    code_bytes = dim // (1 if qk == "int8" else 2)
    tile_k, tiles = min(tile_k, kv_len), ceil(kv_len / min(tile_k, kv_len))

    def scales(keys):
        return {"block": 1, "token": keys, "thread": min(4, ceil(keys / 2))}[granularity]

    sizes = [min(tile_k, kv_len - j * tile_k) for j in range(tiles)]
    seen = [
        kv_len - q_len + min(first + tile_q, q_len) if causal else kv_len
        for first in range(0, q_len, min(tile_q, q_len))
    ]
    met = [sizes[: ceil(each / tile_k)] for each in seen]
    keys = heads * sum(map(sum, met))
    kept = heads * sum(scales(size) for each in met for size in each)
    rows, own = kv_heads * kv_len, kv_heads * sum(map(scales, sizes))
    assert moved_bytes(program, "q") == heads * q_len * dim * 2
    assert moved_bytes(program, "o") == heads * q_len * dim * 2
    assert moved_bytes(program, "k_codes") == (keys + is_made * rows) * code_bytes
    assert moved_bytes(program, "k_scales") == (kept + is_made * own) * 4
    assert moved_bytes(program, "k") == is_made * 2 * rows * dim * 2
    if pv == "fp16":
        assert moved_bytes(program, "v") == keys * dim * 2
    else:
        assert moved_bytes(program, "v") == is_made * 2 * rows * dim * 2
        assert moved_bytes(program, "v_codes") == (keys + is_made * rows) * dim
        stored = is_made * kv_heads * dim * 4
        assert moved_bytes(program, "v_scales") == heads * len(met) * dim * 4 + stored
    if is_made:
        parts = max(1, MACHINE.cores * MACHINE.items_in_flight // kv_heads)
        parts = ceil(tiles / ceil(tiles / min(parts, tiles)))
        totals = kv_heads * parts * (1 + tiles) * dim * 4
        assert moved_bytes(program, "k_totals") == totals


@pytest.mark.parametrize("settings", [{}, {"granularity": "thread", "pv": "fp8"}])
def test_both_engines_agree(settings):
    problem = problem_of(heads=2, group=2, causal=True, q_len=40, kv_len=80)
    program, _ = sage(problem, None, **settings)
    runs = [engine.schedule(program, MACHINE) for engine in (compiled, reference)]
    assert runs[0].cycles == runs[1].cycles


@pytest.mark.parametrize("settings", [{}, {"granularity": "thread"}, {"shift": "cached"}])
def test_recording_without_numbers_gives_the_same_program(settings):
    problem = problem_of(causal=True)
    with_numbers, _ = sage(problem, normal_tensors(problem), **settings)
    without, _ = sage(problem, None, **settings)
    np.testing.assert_array_equal(with_numbers.ops, without.ops)


def test_scores_are_of_the_integer_array_where_there_is_one():
    problem = problem_of(causal=True)
    tensors = normal_tensors(problem)
    with_array = load_machine("edge-npu", {"int_mac": ARRAY}, needs_costs=False)
    on_cube, same = sage(problem, tensors, tile_q=32, tile_k=16)
    on_array, output = sage(problem, tensors, machine=with_array, tile_q=32, tile_k=16)
    np.testing.assert_array_equal(output, same)
    counts = [np.bincount(each.units, minlength=len(Unit)) for each in (on_cube, on_array)]
    assert counts[0][Unit.INT_MAC] == 0
    assert counts[1][Unit.INT_MAC] == counts[1][Unit.CUBE] == counts[0][Unit.CUBE] // 2


@pytest.mark.parametrize(("bits", "fits"), [(19, True), (18, False)])
def test_scores_that_may_not_fit_are_warned_of_and_counted(bits, fits):
    """16 products of 127 x 127 are 258,064, less than 2^18."""
    array = {**ARRAY, "accumulator_bits": bits}
    machine = load_machine("edge-npu", {"int_mac": array}, needs_costs=False)
    problem = problem_of()
    ones = AttentionTensors(
        *(np.ones(shape, np.float32) for shape in problem.input_shapes.values())
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program, _ = sage(problem, ones, machine=machine, smoothing="none")
    assert (program.statistics["accumulator_overflows"] == 0) is fits
    assert [each.category for each in caught] == ([] if fits else [AccumulatorWarning])


def test_scores_that_a_cube_cannot_count_are_refused():
    """2^17 products of 128 x 128 are 2^31."""
    with pytest.raises(DoesNotFitError) as refusal:
        sage(problem_of(dim=2**17), None)
    assert str(refusal.value) == (
        "sage on p: sums over k = 131072 products of int8 can reach 2147483648, more than a "
        "32-bit accumulator holds"
    )


def test_values_of_another_format_are_converted_for_the_second_product():
    def conversions(dtype):
        program, _ = sage(problem_of(dtype=dtype), None, tile_q=45, tile_k=25)
        return np.count_nonzero(program.op_codes == Op.CONVERT)

    assert conversions("bf16") - conversions("fp16") == 3


def test_a_machine_without_a_cube_is_refused():
    with pytest.raises(DoesNotFitError) as refusal:
        sage(problem_of(), None, machine=load_machine("tender-asic"))
    assert str(refusal.value) == (
        "machine tender-asic has no cube, which sage on p uses; give machine.cube to add one"
    )


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_values_that_are_not_finite_are_refused(name):
    problem = problem_of()
    tensors = normal_tensors(problem)
    getattr(tensors, name)[0, 3, 2] = np.inf
    with pytest.raises(QuantizationError, match=f"{name}: found 1 of .* infinite or NaN"):
        sage(problem, tensors)


@pytest.mark.parametrize("beta", [1 - 2.0**-4, 1 - 2.0**-6, 1 - 2.0**-10])
def test_smoothing_is_the_limit_of_pasa_over_one_tile(beta):
    """M K = K - beta mean(K), so what PASA leaves more is 1 - beta of the mean."""
    keys = normal_tensors(problem_of(kv_len=64, dtype="fp32"), mean=8).k[0].astype(np.float64)
    average = solve_pseudo_average(beta, 64, 1.0, "corrected", Format.FP32)
    left = average.matrix() @ keys - (keys - keys.mean(axis=0))
    np.testing.assert_allclose(left, np.tile((1 - beta) * keys.mean(axis=0), (64, 1)), atol=1e-4)


@pytest.mark.parametrize(("common", "drift", "smaller"), [(8, 0, "sage"), (8, 8, "pasa")])
def test_which_leaves_less_follows_from_the_drift_of_tile_means(common, drift, smaller):
    """Sage leaves the drift of a tile's mean, PASA 1 - beta = 1/16 of that mean."""
    rng = np.random.default_rng(3)
    tiles = rng.standard_normal((4, 32, 16)) / 8 + common
    tiles += drift * np.array([1, -1, 1, -1])[:, None, None]
    left = {
        "sage": np.abs(tiles - tiles.mean(axis=(0, 1))).max(),
        "pasa": np.abs(tiles - 15 / 16 * tiles.mean(axis=1, keepdims=True)).max(),
    }
    assert min(left, key=left.get) == smaller
