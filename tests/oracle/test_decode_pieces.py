"""Scores in pieces: the same selection as with all scores on chip, and the bytes that it costs.

A scratchpad so small that scores do not fit makes small problems run in pieces. What fits and what
does not is judged against the form with all scores on chip, and both against float64.
"""

import math

import numpy as np
import pytest

from accelsim.engine import compiled, reference
from accelsim.errors import DoesNotFitError
from accelsim.loading import load_machine
from accelsim.workload.attention import SequenceSpec
from tests.oracle.recorded import MACHINE, moved_bytes, row_bytes, run
from tests.oracle.statements import (
    attention_over,
    full_mask,
    generation,
    normal_tensors,
    quest_masks,
    seen,
    sift_mask,
    topk_mask,
    window_mask,
)

SMALL = load_machine("ascend-910b-no-l2", {"scratchpad.capacity": "6 KiB", "cores": 3})
TALL = load_machine("ascend-910b-no-l2", {"accumulator.capacity": "4 KiB"})
FP32 = {"precision": "fp32"}
SETTINGS = {
    "sift": {"tau": 0.75, "warmup": 2, "fit_from": 1},
    "topk": {"kept": 0.25, "exact_steps": 1},
    "quest": {"page": 4, "kept": 0.25, "exact_steps": 1},
    "window": {"window": 300, "sinks": 5, "exact_steps": 1},
}
SELECTING = list(SETTINGS)


def problem_of(steps=3, kv_len=700, group=2, dtype="fp32"):
    return generation(steps, kv_len, heads=2, group=group, dim=8, dtype=dtype)


def lengths_of(pairs):
    return tuple(SequenceSpec(new=new, cached=cached) for new, cached in pairs)


def mask_of(name, problem, tensors):
    if name == "sift":
        return sift_mask(problem, tensors, 0.75, 2, "fit")
    if name == "topk":
        return topk_mask(problem, tensors, lambda n: math.ceil(n / 4), exact_steps=1)
    mask = (
        window_mask(problem, 300, 5)
        if name == "window"
        else quest_masks(problem, tensors, 4, lambda m: math.ceil(m / 4))
    )
    mask[:, 0] = full_mask(problem)[:, 0]
    return mask


def rows_of_v(problem, program):
    """Return the rows of V that each KV head reads in each step, sorted."""
    number = [tensor.name for tensor in program.tensors].index("v")
    item = np.repeat(np.arange(program.num_items), np.diff(program.item_start))
    phases = program.item_phase[-1] + 1
    rows = np.zeros((problem.steps, problem.kv_heads * problem.kv_len), np.int64)
    size = row_bytes(problem)
    for op in program:
        if op.tensor != number or op.unit.name != "LOAD":
            continue
        step = int(program.item_phase[item[op.index]]) * problem.steps // phases
        first = (op.a - program.tensors[number].address) // size
        if op.op.name == "GATHER":
            own = first + program.gathered_rows[op.d : op.d + op.b]
        else:
            own = np.arange(first, first + op.b)
        rows[step, own] += 1
    return rows


@pytest.mark.parametrize("name", SELECTING)
@pytest.mark.parametrize("seed", range(4))
def test_pieces_select_what_all_scores_on_chip_select(name, seed):
    problem = problem_of()
    tensors = normal_tensors(problem, seed)
    whole, expected = run(name, problem, tensors, **SETTINGS[name], **FP32)
    cut, output = run(name, problem, tensors, machine=SMALL, **SETTINGS[name], **FP32)
    assert "piece" not in whole.parameters
    assert cut.parameters["piece"] < seen(problem, 0) / 2
    mask = mask_of(name, problem, tensors)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(output, attention_over(problem, tensors, mask), rtol=0, atol=1e-5)
    assert cut.statistics == pytest.approx(whole.statistics, rel=1e-12)
    np.testing.assert_array_equal(rows_of_v(problem, cut), rows_of_v(problem, whole))


@pytest.mark.parametrize("precision", ["fp32", "fp16_fp32", "fp16"])
def test_equal_scores_keep_the_first_ones_over_all_pieces(precision):
    problem = problem_of(steps=1, dtype="fp16")
    tensors = normal_tensors(problem, 2)._replace(q=np.zeros((4, 1, 8), np.float32))
    program, output = run("topk", problem, tensors, machine=SMALL, k=400, precision=precision)
    assert program.parameters["piece"] < 200
    found = rows_of_v(problem, program).reshape(2, 700)
    assert found[:, :400].all()
    assert not found[:, 400:].any()
    expected = np.repeat(tensors.v[:, :400].mean(axis=1), 2, axis=0)
    np.testing.assert_allclose(output, expected, atol=2e-3)


@pytest.mark.parametrize(("precision", "number_bytes", "digits"), [("fp32", 4, 4), ("fp16", 2, 2)])
@pytest.mark.parametrize("name", ["topk", "sift", "quest"])
def test_bytes_of_products_that_go_through_hbm(name, precision, number_bytes, digits):
    """They are written once, and read once for each digit, if any, and once to keep some."""
    settings = {"topk": {"k": 90}, "sift": {}, "quest": {"page": 4, "pages": 10}}[name]
    problem = problem_of(dtype="fp16", group=4)
    program, _ = run(name, problem, None, machine=SMALL, precision=precision, **settings)
    columns = [seen(problem, step) for step in range(3)]
    if name == "quest":
        columns = [(each - 1) // 4 for each in columns]
    reads = {"topk": digits + 1, "sift": 1, "quest": digits + 1}[name]
    products = problem.q_heads * sum(columns) * number_bytes
    assert moved_bytes(program, "products") == products * (1 + reads)
    pieces = [math.ceil(each / program.parameters["piece"]) for each in columns]
    assert min(pieces) >= (1 if name == "quest" else 3)
    for each in {"topk": ["piece_max"], "sift": ["piece_max", "piece_sum"], "quest": []}[name]:
        vector_bytes = number_bytes
        assert moved_bytes(program, each) == 2 * problem.q_heads * sum(pieces) * vector_bytes
    size = row_bytes(problem)
    second = 3 if name == "quest" else 0
    assert moved_bytes(program, "q") == problem.q_heads * (sum(pieces) + second) * size
    assert moved_bytes(program, "o") == problem.q_heads * 3 * size
    if name != "quest":
        assert moved_bytes(program, "k") == problem.kv_heads * sum(columns) * size


@pytest.mark.parametrize("name", SELECTING)
def test_pieces_without_numbers_read_as_many_rows_as_all_scores_on_chip(name):
    settings = SETTINGS[name] | ({"warmup": 0} if name == "sift" else {"exact_steps": 0})
    settings |= {"window": 600} if name == "window" else {}
    whole, _ = run(name, problem_of(), None, **settings)
    cut, _ = run(name, problem_of(), None, machine=SMALL, **settings)
    assert cut.parameters["piece"] < 200
    assert cut.statistics == whole.statistics
    assert moved_bytes(cut, "v") == moved_bytes(whole, "v")


def test_the_guard_reads_products_once_more_and_falls_back_to_all_values():
    problem = problem_of(steps=2)
    tensors = normal_tensors(problem, 5)
    settings = {"rule": "given", "c": 5.0, "machine": SMALL, **FP32}
    loose, _ = run("sift", problem, tensors, **settings)
    guarded, output = run("sift", problem, tensors, guard=0.9999, **settings)
    expected = attention_over(problem, tensors, full_mask(problem))
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)
    assert loose.statistics["fallback_fraction"] == 0
    assert guarded.statistics["fallback_fraction"] == 1
    assert 2 * moved_bytes(guarded, "products") == 3 * moved_bytes(loose, "products")
    assert moved_bytes(guarded, "v") == moved_bytes(guarded, "k")


@pytest.mark.parametrize("name", ["split_kv", *SELECTING])
def test_a_tall_group_is_cut_into_blocks_that_read_keys_again(name):
    """Sums of 16 query rows fill the accumulator, and scores need room beside them."""
    problem = generation(2, 60, heads=1, group=32, dim=64)
    tensors = normal_tensors(problem, 3)
    settings = SETTINGS.get(name, {"splits": 2}) | {"tile_k": 2}
    # Quest attends to what the heads of an item pick together, so its blocks are judged as groups.
    alone = generation(2, 60, heads=4, group=8, dim=64)
    repeated = tensors._replace(k=np.repeat(tensors.k, 4, 0), v=np.repeat(tensors.v, 4, 0))
    _, expected = run(name, alone, repeated, **settings, **FP32)
    program, output = run(name, problem, tensors, machine=TALL, **settings, **FP32)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)
    times = moved_bytes(program, "k") / (seen(problem, 0) + seen(problem, 1)) / row_bytes(problem)
    if name in ("split_kv", "topk", "sift"):
        assert times == 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", SELECTING)
def test_a_damaged_query_spoils_its_own_row_only(name, value):
    problem = problem_of()
    tensors = normal_tensors(problem, 7)
    tensors.q[1, 2, 3] = value
    _, output = run(name, problem, tensors, machine=SMALL, **SETTINGS[name], **FP32)
    assert np.flatnonzero(~np.isfinite(output).all(axis=1)).tolist() == [3 + 2]


@pytest.mark.parametrize("name", SELECTING)
def test_the_engines_agree(name):
    problem = problem_of(dtype="fp16")
    program, _ = run(name, problem, normal_tensors(problem, 1), machine=SMALL, **SETTINGS[name])
    fast, slow = compiled.schedule(program, SMALL), reference.schedule(program, SMALL)
    np.testing.assert_array_equal(fast.end, slow.end)


def test_sequences_of_different_lengths_have_pieces_of_their_own():
    problem = generation(1, 700, heads=2, group=2).model_copy(
        update={"sequences": lengths_of([(1, 29), (1, 699)]), "batch": 1, "q_len": 0, "kv_len": 0}
    )
    tensors = normal_tensors(problem, 4)
    for name in ("sift", "topk", "quest"):
        _, expected = run(name, problem, tensors, **SETTINGS[name], **FP32)
        program, output = run(name, problem, tensors, machine=SMALL, **SETTINGS[name], **FP32)
        assert program.parameters["piece"] < 200
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["sift", "topk", "quest", "window", "split_kv"])
def test_kernels_run_at_128k_tokens(name):
    """The widest groups of published models, on the smallest scratchpad and on the largest one."""
    for machine in (load_machine("edge-npu"), MACHINE):
        for heads, kv_heads, dim in [(32, 8, 128), (64, 1, 512), (16, 16, 72)]:
            problem = generation(
                1, 131072, heads=kv_heads, group=heads // kv_heads, dim=dim, dtype="fp16"
            )
            program, _ = run(name, problem, None, machine=machine)
            assert moved_bytes(program, "v") > 0


@pytest.mark.parametrize(
    ("name", "settings", "hint"),
    [
        ("split_kv", {"splits": 1}, "; or leave out splits = 1: it fits without"),
        ("topk", {"ranking": "bitonic"}, "; or leave out ranking = bitonic: it fits without"),
        (
            "window",
            {"tile_k": 4096, "window": 5000},
            "; or leave out tile_k = 4096: it fits without",
        ),
        ("quest", {"page": 4096, "kept": 0.9}, "; or leave out page = 4096: it fits without"),
    ],
)
def test_a_choice_that_does_not_fit_is_named(name, settings, hint):
    problem = generation(1, 40960, group=4)
    with pytest.raises(DoesNotFitError) as error:
        run(name, problem, None, machine=SMALL, **settings)
    assert str(error.value).endswith(hint)
    assert f"{name} on generation does not fit the scratchpad of machine" in str(error.value)


def test_what_fits_in_no_form_says_so_without_a_hint():
    machine = load_machine("ascend-910b-no-l2", {"scratchpad.capacity": "4 KiB"})
    with pytest.raises(DoesNotFitError) as error:
        run("topk", generation(1, 4096, dim=4096), None, machine=machine)
    assert str(error.value).endswith("choose smaller tiles or a larger scratchpad")


@pytest.mark.parametrize("machine", ["ascend-910b-no-l2", "ascend-910b", "edge-npu", "h200-sxm"])
def test_a_window_costs_the_same_at_any_context(machine):
    """On memories whose banks do not ask for the address: bytes, cycles and words but addresses."""
    machine = load_machine(machine)
    found = []
    for kv_len in (8192, 32768, 131072):
        problem = generation(2, kv_len, heads=8, group=4, dim=128, dtype="fp16")
        program, _ = run("window", problem, None, machine=machine)
        end = compiled.schedule(program, machine).end.max()
        moved = [moved_bytes(program, name) for name in "qkvo"]
        found.append((end, moved, len(program.ops)))
    assert found[0] == found[1] == found[2]
    assert found[0][1][1] == 2 * 8 * (4 + 256) * 256
