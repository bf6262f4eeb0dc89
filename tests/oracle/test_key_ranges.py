"""Flash with keys split over work items, and with values that are a part of the keys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.engine import compiled, reference
from accelsim.errors import ConfigError, WorkloadError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.registry import get_kernel
from accelsim.library.registry import library_of
from accelsim.library.sequences import check_parts
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.recorded import MACHINE, moved_bytes, run
from tests.oracle.statements import normal_tensors

FP32 = {"precision": "fp32"}


def problem_of(**own):
    fields = {"kind": "attention", "name": "ranges", "q_heads": 6, "kv_heads": 2, "head_dim": 8}
    fields |= {"q_len": 1, "kv_len": 40, "dtype": "fp32", "causal": True}
    if "sequences" in own:
        del fields["q_len"], fields["kv_len"]
    return validate(AttentionProblem, Document(fields | own, {(): ""}))


def tensors_of(problem, seed=0):
    """Normal tensors; values that are a part of the keys are that part."""
    if not problem.values_in_keys:
        return normal_tensors(problem, seed, 3.0)
    separate = problem.model_copy(update={"values_in_keys": False})
    own = normal_tensors(separate, seed, 3.0)
    return own._replace(v=own.k[..., : problem.widths.value])


lengths = st.fixed_dictionaries(
    {"q_len": st.integers(1, 6), "kv_len": st.integers(6, 50), "causal": st.booleans()},
    optional={"softcap": st.just(2.0), "sink_logits": st.just(True)},
)
latent = st.sampled_from(
    [{}, {"value_dim": 5}, {"values_in_keys": True}, {"values_in_keys": True, "value_dim": 5}]
)


@settings(max_examples=120)
@given(
    *(lengths, latent, st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 9)),
    *(st.integers(1, 20), st.booleans()),
)
def test_any_ranges_are_attention_to_all_keys(own, values, seed, splits, tile_q, tile_k, fold):
    problem = problem_of(batch=2, **own, **values)
    tensors = tensors_of(problem, seed)
    tiles = {"splits": splits, "tile_q": tile_q, "tile_k": tile_k, "fold": fold}
    program, output = run("flash", problem, tensors, **tiles, **FP32)
    exact = softmax_attention(problem, tensors)
    np.testing.assert_allclose(output, exact, rtol=0, atol=2e-5)
    alone, _ = run("flash", problem, None, **tiles, **FP32)
    assert np.array_equal(alone.ops, program.ops)


@settings(max_examples=30)
@given(st.integers(0, 2**16), st.integers(1, 6), st.integers(2, 9))
def test_query_tiles_in_turn_take_values_from_keys_too(seed, new, tile_k):
    problem = problem_of(q_len=new, value_dim=5, values_in_keys=True)
    tensors = tensors_of(problem, seed)
    tiles = {"query_tiles": 2, "tile_q": 4, "tile_k": tile_k}
    _, output = run("flash", problem, tensors, **tiles, **FP32)
    exact = softmax_attention(problem, tensors)
    np.testing.assert_allclose(output, exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize("values", [{}, {"values_in_keys": True, "value_dim": 5}])
def test_sequences_of_different_lengths_have_ranges_of_one_length(values):
    sequences = [{"new": 3, "cached": 4}, {"new": 1, "cached": 61, "count": 2}]
    problem = problem_of(sequences=sequences, **values)
    tensors = tensors_of(problem, 3)
    tiles = {"splits": 4, "tile_q": 3, "tile_k": 4, "fold": True}
    program, output = run("flash", problem, tensors, **tiles, **FP32)
    exact = softmax_attention(problem, tensors)
    np.testing.assert_allclose(output, exact, rtol=0, atol=2e-5)
    assert program.parameters["splits"] == 4


@pytest.mark.parametrize("scales", ["one", "peak"])
def test_latent_rows_in_fp8_have_one_scale_for_keys_and_values(scales):
    keys = {"values_in_keys": True, "value_dim": 5, "kv_dtype": "fp8_e4m3", "kv_scales": scales}
    problem = problem_of(dtype="fp16", **keys)
    own = tensors_of(problem)
    scale = 1.0 if scales == "one" else 0.25
    codes = np.round(own.k / scale)
    tensors = AttentionTensors(own.q, codes, codes[..., :5], scale, scale)
    _, output = run("flash", problem, tensors, splits=2, tile_q=3, tile_k=8, fold=True)
    exact = softmax_attention(problem, tensors)
    np.testing.assert_allclose(output, exact, rtol=0, atol=2e-2)


def mla(batch=1, kv_len=300, heads=16):
    """A step of DeepSeek's attention in its absorbed form."""
    keys = {"q_heads": heads, "kv_heads": 1, "head_dim": 576, "value_dim": 512, "dtype": "bf16"}
    return problem_of(batch=batch, kv_len=kv_len, values_in_keys=True, **keys)


def test_a_step_reads_a_latent_row_once():
    problem = mla(batch=3)
    assert problem.tensor_bytes["k"] == 3 * 300 * 576 * 2
    assert "v" not in problem.tensor_bytes
    for splits in (1, 3):
        tiles = {"tile_q": 16, "tile_k": 32, "fold": True, "splits": splits}
        program, _ = run("flash", problem, None, **tiles)
        assert moved_bytes(program, "k") == problem.tensor_bytes["k"]
        assert {tensor.name for tensor in program.tensors if tensor.role == "input"} == {"q", "k"}
    assert problem.macs == 3 * 300 * 16 * (576 + 512)


def test_results_of_ranges_are_written_and_read_once():
    problem = mla()
    tiles = {"tile_q": 8, "tile_k": 32, "fold": True, "splits": 3}
    program, _ = run("flash", problem, None, **tiles)
    # Ten tiles of keys: ranges of four, four and two, of each of two query tiles.
    assert moved_bytes(program, "partial_o") == 2 * 3 * 16 * 512 * 4
    assert moved_bytes(program, "partial_max") == moved_bytes(program, "partial_sum")
    assert moved_bytes(program, "partial_max") == 2 * 3 * 16 * 4
    assert moved_bytes(program, "q") == 3 * 16 * 576 * 2
    assert moved_bytes(program, "o") == 16 * 512 * 2
    assert program.num_items == 2 * 3 + 2


@pytest.mark.parametrize("machine", ["edge-npu", "ascend-910b", "h200-sxm"])
def test_engines_agree_on_ranges(machine):
    machine = load_machine(machine)
    tiles = {"tile_q": 8, "tile_k": 32, "fold": True, "splits": 3}
    program, _ = run("flash", mla(heads=8, kv_len=200), None, machine=machine, **tiles)
    found, expected = (engine.schedule(program, machine) for engine in (compiled, reference))
    for name in ("start", "end", "cause", "busy", "core"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_as_many_ranges_are_chosen_as_take_the_least_estimated_time():
    problem, kernel = mla(kv_len=4096), get_kernel("flash")
    chosen = kernel.parameters(splits="chosen", order="by_head")
    program, _ = run("flash", problem, None, splits="chosen", order="by_head")
    assert program.parameters["splits"] > 1
    least = kernel.estimated_cycles(problem, MACHINE, chosen)
    for splits in (1, 2, 8):
        own = chosen.model_copy(update={"splits": splits})
        assert least <= kernel.estimated_cycles(problem, MACHINE, own)
    many, _ = run("flash", mla(batch=64, kv_len=128), None, splits="chosen")
    assert many.parameters["splits"] == 1


@pytest.mark.parametrize("machine", ["ascend-910b", "ascend-910b-no-l2", "h200-sxm"])
def test_a_library_takes_latents_by_flash(machine):
    machine = load_machine(machine)
    recipe = library_of(machine).recipe(mla(kv_len=4096), machine)
    assert recipe.kernel == "flash"
    assert recipe.settings["splits"] == "chosen"


@pytest.mark.parametrize(
    ("settings_", "own", "found"),
    [
        ({"query_tiles": 2}, {}, "query_tiles = 2"),
        ({}, {"window": 9}, "a window"),
        ({"codes": "int8"}, {}, "codes = int8"),
    ],
)
def test_what_ranges_cannot_have_is_refused(settings_, own, found):
    with pytest.raises(WorkloadError) as caught:
        run("flash", problem_of(**own), None, splits=2, **settings_)
    assert str(caught.value) == (f"flash on ranges: found splits = 2 with {found}, allowed: 1")


def test_a_window_has_no_ranges_to_choose():
    program, _ = run("flash", problem_of(window=9), None, splits="chosen")
    assert program.parameters["splits"] == 1


def test_values_in_keys_are_refused_by_kernels_that_read_them_apart():
    with pytest.raises(WorkloadError) as caught:
        check_parts(get_kernel("split_kv"), mla())
    assert str(caught.value) == (
        "workload ranges: kernel split_kv has no values_in_keys; kernels that have: flash"
    )


def test_keys_and_values_that_the_cube_takes_in_two_formats_are_refused():
    problem = problem_of(
        values_in_keys=True, value_dim=5, dtype="fp16", kv_dtype="fp8_e4m3", name="mixed"
    )
    machine = load_machine("ascend-910b")
    assert Format.FP8_E4M3 not in machine.cube.rates
    with pytest.raises(WorkloadError) as caught:
        run("flash", problem, None, machine=machine, precision="fp32")
    assert str(caught.value) == (
        "workload mixed: values_in_keys: the matrix unit takes keys in fp16 and values in fp32, "
        "allowed: one format for both; choose another precision or kv_dtype"
    )


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"values_in_keys": True, "value_dim": 9},
            "values_in_keys: found true with value_dim = 9 and head_dim = 8, allowed: with "
            "value_dim up to head_dim",
        ),
        (
            {"values_in_keys": True, "tensors": {"source": "model", "model": "m", "layer": 0}},
            "found source model with values_in_keys, allowed with it: uniform, hybrid, file",
        ),
        (
            {"sink_logits": True, "tensors": {"source": "model", "model": "m", "layer": 0}},
            "found source model with sink_logits, allowed with it: uniform, hybrid, file",
        ),
    ],
)
def test_problems_that_cannot_be_are_refused(own, message):
    with pytest.raises(ConfigError) as caught:
        problem_of(**own)
    assert message in str(caught.value)
