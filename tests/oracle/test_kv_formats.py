"""Attention whose K and V have another format, width or scale than Q, against float64 and bounds.

Numbers, bytes and ops are those that follow from the formats and the widths alone.
"""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.precision import formats_of
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.numerics.formats import Format, common_format
from accelsim.program.ops import Op, Unit
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.problem import FLOAT_FORMATS, AttentionProblem
from accelsim.workload.tensors import load_tensors
from tests.oracle.bounds import AttentionSteps, dense_bound, flash_bound
from tests.oracle.machines import any_format_machine
from tests.oracle.recorded import moved_bytes

PAIRS = [
    (dtype, kv)
    for dtype in FLOAT_FORMATS
    for kv in FLOAT_FORMATS
    if common_format(dtype, kv) == dtype
]
"""Formats of Q, and of K and V beside it."""
KERNELS = {
    "flash": {},
    "dense": {},
    "split_kv": {"splits": 3},
    "window": {"window": 100},
    "topk": {"k": 100},
    "quest": {"page": 4, "kept": 1.0},
    "sift": {"rule": "given", "c": 1e-6},
}
"""Kernels that read any K and V, with parameters with which nothing is left out."""
SIZES = {
    "flash": {"tile_q": 8, "query_tiles": 1, "fold": False},
    "dense": {"tile_q": 8, "softmax_rows": 8, "fold": False},
}
"""What they would choose by the machine."""
WITHOUT_FP8 = load_machine("ascend-910b-no-l2")


def problem_of(**keys):
    common = {"kind": "attention", "name": "p", "q_heads": 4, "kv_heads": 2, "head_dim": 24}
    lengths = {} if "sequences" in keys else {"q_len": 20, "kv_len": 50}
    source = {"source": "hybrid", "mean": 1, "seed": 7}
    return AttentionProblem.model_validate(common | lengths | {"tensors": source} | keys)


def three_rows(kernel):
    """Three tokens: in steps, or at once where each step is a program."""
    return {"q_len": 1, "steps": 3} if get_kernel(kernel).takes_steps else {"q_len": 3}


def recorded(kernel, problem, machine=None, **choices):
    """The verified program, its output and the tensors."""
    own, tensors = get_kernel(kernel), load_tensors(problem, Path())
    machine = machine or any_format_machine()
    program, output = own.record(problem, machine, own.parameters(**choices), tensors)
    verify(program)
    return program, output, tensors


def bound_of(kernel, problem, tensors, precision, tile_k):
    """The error that roundings allow: K and V are exact, so are conversions and their products."""
    formats = formats_of(problem, any_format_machine(), precision)
    steps = AttentionSteps(
        stored=formats.stored,
        scores=formats.scores,
        vector=formats.vector,
        weights=formats.weights,
        output=formats.output,
        kv_len=problem.kv_len,
        tile_k=tile_k,
    )
    own = flash_bound if kernel == "flash" else dense_bound
    # One more rounding of the score factor, and of row sums times 1 / v_scale and of that scale.
    scaled = tensors.q, tensors.k * tensors.k_scale, tensors.v * tensors.v_scale
    return own(*scaled, steps) * (1 + 2.0**-6) + np.abs(scaled[2]).max() * 2.0**-21


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PAIRS),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from(["flash", "dense"]),
    st.sampled_from([None, "fp32", "fp32_scores"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_any_formats_and_widths_are_softmax_attention_up_to_rounding(
    pair, head_dim, value_dim, kernel, precision, is_scaled, seed
):
    problem = problem_of(
        head_dim=head_dim,
        value_dim=value_dim,
        dtype=pair[0],
        kv_dtype=pair[1],
        kv_scales="peak" if is_scaled and pair[1].is_fp8 else "one",
        causal=True,
        tensors={"source": "uniform", "seed": seed},
    )
    _, output, tensors = recorded(kernel, problem, tile_q=8, tile_k=16, precision=precision)
    assert output.shape == (4 * 20, value_dim)
    error = np.abs(output - softmax_attention(problem, tensors)).max()
    tile_k = 16 if kernel == "flash" else problem.kv_len
    assert error <= bound_of(kernel, problem, tensors, precision, tile_k)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kv_dtype", ["fp8_e4m3", "fp8_e5m2"])
@pytest.mark.parametrize("kv_scales", ["one", "peak"])
def test_every_kernel_multiplies_what_the_cache_holds(kernel, kv_dtype, kv_scales):
    problem = problem_of(
        **three_rows(kernel),
        kv_len=40,
        value_dim=16,
        dtype="bf16",
        kv_dtype=kv_dtype,
        kv_scales=kv_scales,
        causal=True,
    )
    _, output, tensors = recorded(kernel, problem, **KERNELS[kernel])
    exact = softmax_attention(problem, tensors)
    # Weights are BF16, whose rounding is 2^-9; so is the output's.
    assert np.abs(output - exact).max() <= 3 * 2.0**-9 * np.abs(exact).max() + 2.0**-9
    without, _ = get_kernel(kernel).record(
        problem, any_format_machine(), get_kernel(kernel).parameters(**KERNELS[kernel]), None
    )
    if kernel in ("flash", "dense", "split_kv", "window"):
        with_numbers, _, _ = recorded(kernel, problem, **KERNELS[kernel])
        np.testing.assert_array_equal(without.ops, with_numbers.ops)


@pytest.mark.parametrize("is_ragged", [False, True])
def test_a_step_alone_has_the_widths_and_scales_of_all(is_ragged):
    """What `flash` computes step by step is what `split_kv` does in one program."""
    sequences = [{"new": 1, "cached": 30}, {"new": 1, "cached": 9, "count": 2}]
    lengths = {"sequences": sequences} if is_ragged else {"batch": 2, "q_len": 1, "kv_len": 40}
    formats = {"dtype": "fp32", "kv_dtype": "fp8_e4m3", "kv_scales": "peak"}
    problem = problem_of(**lengths, **formats, steps=3, value_dim=16)
    _, at_once, tensors = recorded("split_kv", problem, splits=2)
    flash, outputs = get_kernel("flash"), []
    for step in range(3):
        alone, own = problem.at_step(step), tensors.at_step(problem, step)
        _, output = flash.record(alone, any_format_machine(), flash.parameters(), own)
        outputs.append(output)
    rows = np.stack(outputs, axis=1).reshape(-1, 16)
    np.testing.assert_allclose(rows, at_once, atol=2e-6 * np.abs(at_once).max())


def test_several_new_tokens_are_one_pass_over_a_narrow_cache():
    formats = {"dtype": "fp32", "kv_dtype": "fp8_e4m3", "kv_scales": "peak"}
    problem = problem_of(q_len=3, kv_len=40, value_dim=16, causal=True, **formats)
    for machine in (any_format_machine(), WITHOUT_FP8):
        _, output, tensors = recorded("split_kv", problem, machine, splits=3)
        exact = softmax_attention(problem, tensors)
        np.testing.assert_allclose(output, exact, atol=2e-6 * np.abs(exact).max())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kv_dtype", ["fp8_e4m3", "fp8_e5m2"])
def test_a_cube_without_the_format_takes_what_the_vector_unit_converts(kernel, kv_dtype):
    """The conversion is exact, so it costs ops and changes no number."""
    sizes = three_rows(kernel) | {"kv_len": 40, "value_dim": 16}
    problem = problem_of(**sizes, dtype="bf16", kv_dtype=kv_dtype, causal=True)
    choices = KERNELS[kernel] | {"tile_k": 16} | SIZES.get(kernel, {})
    taken, output, _ = recorded(kernel, problem, **choices)
    converted, same_output, _ = recorded(kernel, problem, WITHOUT_FP8, **choices)
    np.testing.assert_array_equal(output, same_output)
    added = np.count_nonzero(converted.op_codes == Op.CONVERT)
    added -= np.count_nonzero(taken.op_codes == Op.CONVERT)
    loads = [converted.tensors[i].name for i in converted.tensor_indices if i >= 0]
    assert added == sum(name in ("k", "v", "k_min", "k_max") for name in loads) > 0


@pytest.mark.parametrize("query_tiles", [1, 2])
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("machine", [any_format_machine(), WITHOUT_FP8])
def test_flash_reads_narrow_caches_of_ragged_sequences(query_tiles, fold, machine):
    lengths = [{"new": 1, "cached": 70}, {"new": 37, "cached": 20, "count": 2}, {"new": 5}]
    problem = problem_of(
        sequences=lengths,
        value_dim=16,
        dtype="fp32",
        kv_dtype="fp8_e4m3",
        kv_scales="peak",
        causal=True,
    )
    _, output, tensors = recorded(
        "flash", problem, machine, tile_q=16, tile_k=16, query_tiles=query_tiles, fold=fold
    )
    exact = softmax_attention(problem, tensors)
    np.testing.assert_allclose(output, exact, atol=2e-6 * np.abs(tensors.v).max())


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(PAIRS),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 40),
    st.integers(1, 80),
    st.integers(1, 32),
)
def test_bytes_are_the_closed_forms(pair, head_dim, value_dim, q_len, kv_len, tile_q):
    problem = problem_of(
        head_dim=head_dim,
        value_dim=value_dim,
        dtype=pair[0],
        kv_dtype=pair[1],
        q_len=q_len,
        kv_len=kv_len,
        tensors=None,
    )
    kernel, width = get_kernel("flash"), pair[0].bits // 8
    choices = kernel.parameters(tile_q=tile_q, tile_k=16, query_tiles=1, fold=False)
    program, _ = kernel.record(problem, any_format_machine(), choices, None)
    passes, of_kv = 4 * ceil(q_len / tile_q), pair[1].bits // 8
    assert moved_bytes(program, "q") == 4 * q_len * head_dim * width
    assert moved_bytes(program, "k") == passes * kv_len * head_dim * of_kv
    assert moved_bytes(program, "v") == passes * kv_len * value_dim * of_kv
    assert moved_bytes(program, "o") == 4 * q_len * value_dim * pair[0].of_results.bits // 8
    sizes = problem.tensor_bytes
    assert sizes["k"] == 2 * kv_len * head_dim * of_kv
    assert sizes["v"] == 2 * kv_len * value_dim * of_kv
    assert sizes["o"] == moved_bytes(program, "o")
    assert problem.macs == 4 * q_len * kv_len * (head_dim + value_dim)


@pytest.mark.parametrize("splits", [1, 3])
def test_bytes_of_a_decode_step_are_the_closed_form(splits):
    problem = problem_of(q_len=1, kv_len=90, value_dim=16, dtype="bf16", kv_dtype="fp8_e4m3")
    kernel = get_kernel("split_kv")
    choices = kernel.parameters(splits=splits, tile_k=16)
    program, _ = kernel.record(problem, WITHOUT_FP8, choices, None)
    assert moved_bytes(program, "k") == 2 * 90 * 24
    assert moved_bytes(program, "v") == 2 * 90 * 16
    assert moved_bytes(program, "q") == splits * 4 * 24 * 2
    assert moved_bytes(program, "o") == 4 * 16 * 2
    if splits > 1:
        assert moved_bytes(program, "partial_o") == 2 * splits * 4 * 16 * 4


def test_a_scale_costs_one_product_for_each_row_of_the_output():
    def products(scales):
        problem = problem_of(dtype="bf16", kv_dtype="fp8_e4m3", kv_scales=scales, tensors=None)
        kernel = get_kernel("flash")
        choices = kernel.parameters(tile_q=8, tile_k=16, query_tiles=1, fold=False)
        program, _ = kernel.record(problem, any_format_machine(), choices, None)
        own = program.ops[program.op_codes == Op.MULTIPLY]
        return int((own[:, 3] * own[:, 4]).sum())

    assert products("peak") - products("one") == 4 * 20


def test_scales_use_the_range_of_fp8():
    """Values below the smallest number of E4M3 are lost without a scale."""
    small = {"source": "uniform", "amplitude": 9e-4}
    errors = []
    for scales in ("one", "peak"):
        problem = problem_of(dtype="fp32", kv_dtype="fp8_e4m3", kv_scales=scales, tensors=small)
        exact = softmax_attention(
            problem, load_tensors(problem_of(dtype="fp32", tensors=small), Path())
        )
        _, output, tensors = recorded("flash", problem)
        errors.append(np.linalg.norm(output - exact) / np.linalg.norm(exact))
        assert np.abs(tensors.k).max() == (448 if scales == "peak" else 0)
    assert errors[1] < 0.1 < errors[0]


def test_a_score_factor_that_is_lost_is_refused():
    small = {"source": "uniform", "amplitude": 9e-4}
    problem = problem_of(dtype="fp8_e4m3", kv_scales="peak", tensors=small)
    with pytest.raises(WorkloadError) as refusal:
        recorded("flash", problem, scale_at="query")
    factor = load_tensors(problem, Path()).k_scale / np.sqrt(24)
    assert str(refusal.value) == (
        f"workload p: 1/sqrt(head_dim) times the scale of K is {factor:.3g}, "
        "which is 0 in fp8_e4m3; "
        "allowed: a precision with a vector path in fp32, scale_at = scores, or kv_scales = one"
    )


def test_kernels_that_read_none_of_this_say_so():
    problem = problem_of(q_len=1, dtype="bf16", kv_dtype="fp8_e4m3", value_dim=16)
    for name in ("pasa", "centered", "sparse", "int_flash"):
        with pytest.raises(WorkloadError) as refusal:
            simulate("ascend-910b", LoadedWorkload(problem, Path()), name)
        assert str(refusal.value) == (
            f"workload p: kernel {name} reads K and V of the format and width of Q without scales, "
            "found K and V in fp8_e4m3 (kv_scales one) with rows of 24 and 16 elements beside Q in "
            "bf16; kernels that read these: dense, flash, split_kv, sift, topk, quest, window"
        )


@pytest.mark.parametrize("kernel", ["flash", "split_kv", "dense"])
@pytest.mark.parametrize("machine", ["ascend-910b", "h200-sxm"])
def test_both_engines_agree(kernel, machine):
    problem = problem_of(q_len=1, kv_len=200, value_dim=16, dtype="bf16", kv_dtype="fp8_e5m2")
    reports = [
        simulate(machine, LoadedWorkload(problem, Path()), kernel, engine=each)
        for each in ("compiled", "reference")
    ]
    assert reports[0].cycles == reports[1].cycles


@pytest.mark.parametrize("kernel", ["flash", "split_kv", "dense"])
@pytest.mark.parametrize("machine", ["ascend-910b-no-l2", "h200-sxm"])
def test_estimates_know_formats_and_widths(kernel, machine):
    """Half the bytes of a cache are half the time where the memory is the bound."""
    sizes = {"batch": 8, "q_heads": 32, "kv_heads": 8, "q_len": 1, "kv_len": 4096}
    for own in ({"kv_dtype": "fp8_e4m3"}, {"value_dim": 64}):
        problem = problem_of(**sizes, head_dim=128, dtype="bf16", tensors=None, **own)
        report = simulate(machine, LoadedWorkload(problem, Path()), kernel)
        estimate = get_kernel(kernel).estimated_cycles(
            problem, load_machine(machine), get_kernel(kernel).parameters()
        )
        assert estimate == pytest.approx(report.cycles, rel=0.25)


BF16_KERNELS = [
    name
    for name in kernel_names()
    if "precision" in get_kernel(name).parameters.model_fields
    and get_kernel(name).problem_kind == "attention"
]


@pytest.mark.parametrize("kernel", BF16_KERNELS)
def test_bf16_is_flash_attention_2_by_default(kernel):
    """FP32 scores leave the cube, and BF16 weights enter it, unless something else is asked for."""
    sizes = three_rows(kernel) | {"kv_len": 40, "tensors": None}
    problem, own = problem_of(**sizes, dtype="bf16", causal=True), get_kernel(kernel)
    program, _ = own.record(problem, any_format_machine(), own.parameters(), None)
    bits = {buffer.name: buffer.bits for buffer in program.buffers}
    names = {name.removeprefix("first_") for name in bits}
    assert {"weights", "x"} & names or {"weight_rows", "score_rows"} & names
    for name, width in bits.items():
        kind = name.removeprefix("first_").removeprefix("second_")
        if kind in ("scores", "x", "score_rows", "output_acc", "row_max", "row_sum", "total"):
            assert width == 32, name
        if kind in ("weights", "weight_rows"):
            assert width == 16, name
    products = program.ops[program.units == Unit.CUBE]
    asked = own.record(problem, any_format_machine(), own.parameters(precision="fp32_scores"), None)
    np.testing.assert_array_equal(program.ops, asked[0].ops)
    assert len(products) > 0
    assert formats_of(problem, any_format_machine(), None).output_operand == Format.BF16
