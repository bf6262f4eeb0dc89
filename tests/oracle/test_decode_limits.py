"""Decode kernels at their limits: degenerate and damaged input, fallbacks, runs without tensors."""

import numpy as np
import pytest

from accelsim.engine import compiled, reference
from accelsim.errors import ConfigError, DoesNotFitError
from accelsim.loading import load_machine
from accelsim.program.ops import D, Op
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.recorded import MACHINE, moved_bytes, row_bytes, run
from tests.oracle.statements import attention_over, full_mask, generation, normal_tensors

FP32 = {"precision": "fp32"}
SETTINGS = {
    "split_kv": {"splits": 3},
    "sift": {"warmup": 4, "fit_from": 1, "tau": 0.5},
    "topk": {"k": 5},
    "quest": {"page": 4, "pages": 2},
    "window": {"window": 6, "sinks": 2},
}
KERNELS = list(SETTINGS)
COMPUTES_EVERY_SCORE = ["split_kv", "sift", "topk"]


def damaged(tensors, name, place, value):
    arrays = tensors._asdict()
    arrays[name] = arrays[name].copy()
    arrays[name][place] = value
    return AttentionTensors(**arrays)


def dense(problem, tensors):
    with np.errstate(invalid="ignore"):
        return attention_over(problem, tensors, full_mask(problem))


@pytest.mark.parametrize("name", KERNELS)
def test_one_token_is_its_own_value(name):
    problem = generation(1, 1, group=2)
    tensors = normal_tensors(problem, 1)
    _, output = run(name, problem, tensors, **SETTINGS[name], **FP32)
    np.testing.assert_array_equal(output, np.repeat(tensors.v[0], 2, axis=0))


@pytest.mark.parametrize("name", KERNELS)
def test_equal_scores_weigh_what_is_kept_equally(name):
    """Sift keeps all: no weight is below the quantile of equal ones. Top-k keeps the first k."""
    problem = generation(30, 30)
    tensors = normal_tensors(problem, 2)._replace(q=np.zeros((1, 30, 8), np.float32))
    program, output = run(name, problem, tensors, **SETTINGS[name], **FP32)
    last = {
        "split_kv": range(30),
        "sift": range(30),
        "topk": range(5),
        "quest": [0, 1, 2, 3, 4, 5, 6, 7, 28, 29],
        "window": [0, 1, 24, 25, 26, 27, 28, 29],
    }[name]
    np.testing.assert_allclose(output[-1], tensors.v[0, list(last)].mean(axis=0), atol=1e-6)
    if name == "topk":
        assert program.statistics["kept_fraction"] == sum(min(n, 5) for n in range(1, 31)) / 465


def test_weights_that_underflow_leave_nothing_to_fit_and_nothing_to_load():
    """One key takes all the weight: the quantile is zero, and rows of zero weight are not read."""
    problem = generation(20, 20)
    tensors = normal_tensors(problem, 3)
    keys = np.zeros((1, 20, 8), np.float32)
    keys[0, 0, 0] = 1000
    tensors = tensors._replace(q=np.ones((1, 20, 8), np.float32), k=keys)
    program, output = run("sift", problem, tensors, **SETTINGS["sift"], **FP32)
    np.testing.assert_array_equal(output, np.repeat(tensors.v[0, :1], 20, axis=0))
    assert program.statistics["unfitted_fraction"] == 1
    assert program.statistics["kept_mass"] == 1
    assert moved_bytes(program, "v") == (1 + 2 + 3 + 4 + 16) * row_bytes(problem)


def test_a_fit_over_one_context_length_keeps_every_key():
    problem = generation(8, 20)
    tensors = normal_tensors(problem, 4)
    program, output = run("sift", problem, tensors, **{**SETTINGS["sift"], "warmup": 1}, **FP32)
    np.testing.assert_allclose(output, dense(problem, tensors), atol=1e-5)
    assert program.statistics["unfitted_fraction"] == 1
    assert program.statistics["kept_fraction"] == 1


def test_the_guard_falls_back_to_all_values():
    problem = generation(30, 30, heads=2, group=2)
    tensors = normal_tensors(problem, 5)
    settings = {"rule": "given", "c": 5.0, **FP32}
    loose, _ = run("sift", problem, tensors, **settings)
    assert loose.statistics["fallback_fraction"] == 0
    assert loose.statistics["kept_mass"] < 0.9
    guarded, output = run("sift", problem, tensors, guard=0.9999, **settings)
    np.testing.assert_allclose(output, dense(problem, tensors), atol=1e-5)
    assert guarded.statistics["fallback_fraction"] == pytest.approx(
        58 / 60
    )  # one key is all there is in step 0
    assert guarded.statistics["kept_mass"] == 1
    assert moved_bytes(guarded, "v") == moved_bytes(guarded, "k")


def test_a_threshold_above_all_weights_keeps_the_largest():
    problem = generation(10, 30)
    tensors = normal_tensors(problem, 6)
    program, output = run("sift", problem, tensors, rule="given", c=1000.0, **FP32)
    largest = (tensors.q[0] @ tensors.k[0].T + np.triu(np.full((10, 30), -np.inf), 21)).argmax(1)
    np.testing.assert_array_equal(output, tensors.v[0, largest])
    assert program.statistics["union_fraction"] == pytest.approx(10 / sum(range(21, 31)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", KERNELS)
def test_a_damaged_query_spoils_its_own_row_only(name, value):
    problem = generation(12, 30, group=2)
    tensors = damaged(normal_tensors(problem, 7), "q", (1, 9, 3), value)
    _, output = run(name, problem, tensors, **SETTINGS[name], **FP32)
    spoiled = ~np.isfinite(output).all(axis=1)
    assert np.flatnonzero(spoiled).tolist() == [12 + 9]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", COMPUTES_EVERY_SCORE)
def test_a_damaged_key_spoils_every_row_that_dense_attention_spoils(name, value):
    problem = generation(12, 30, group=2)
    tensors = damaged(normal_tensors(problem, 8), "k", (0, 22, 3), value)
    _, output = run(name, problem, tensors, **SETTINGS[name], **FP32)
    expected = np.isnan(dense(problem, tensors)).any(axis=1)
    assert expected.sum() >= 2  # an infinite key may also have weight zero
    assert (~np.isfinite(output)).any(axis=1).tolist() == expected.tolist()


@pytest.mark.parametrize("name", KERNELS)
def test_a_damaged_value_spoils_the_rows_that_read_it(name):
    problem = generation(12, 30)
    tensors = normal_tensors(problem, 9)
    _, clean = run(name, problem, tensors, **SETTINGS[name], **FP32)
    _, output = run(name, problem, damaged(tensors, "v", (0, 29), np.nan), **SETTINGS[name], **FP32)
    spoiled = np.isnan(output).any(axis=1)
    assert not spoiled[:-1].any()
    np.testing.assert_array_equal(output[:-1], clean[:-1])
    assert spoiled[-1] == (not np.isfinite(output[-1]).all())
    if name in ("split_kv", "window", "quest"):
        assert spoiled[-1]


def test_a_damaged_row_of_the_warmup_is_not_learned_from():
    problem = generation(20, 30)
    tensors = normal_tensors(problem, 10)
    _, clean = run("sift", problem, tensors, **SETTINGS["sift"] | {"rule": "c_over_t"}, **FP32)
    broken = damaged(tensors, "q", (0, 2, 0), np.nan)
    program, output = run(
        "sift", problem, broken, **SETTINGS["sift"] | {"rule": "c_over_t"}, **FP32
    )
    assert np.flatnonzero(np.isnan(output).any(axis=1)).tolist() == [2]
    assert program.statistics["unfitted_fraction"] == 0
    assert np.isfinite(program.statistics["kept_mass"])
    assert np.isfinite(clean).all()


@pytest.mark.parametrize("name", ["split_kv", "topk", "window"])
def test_a_run_without_tensors_records_the_same_ops(name):
    """One head a group and exact counts: only the rows that are gathered differ."""
    problem = generation(12, 40, heads=2)
    with_numbers, _ = run(name, problem, normal_tensors(problem, 11), **SETTINGS[name])
    without, output = run(name, problem, None, **SETTINGS[name])
    assert output is None
    np.testing.assert_array_equal(with_numbers.ops, without.ops)
    assert with_numbers.statistics.get("union_fraction") == without.statistics.get("union_fraction")


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("sift", {"tau": 0.75}, 10),
        ("sift", {"assumed_union": 0.35}, 14),
        ("topk", {"kept": 0.25, "assumed_union": 0.6}, 24),
        ("quest", {"page": 5, "kept": 0.25}, 2 * 5 + 5),
        ("quest", {"page": 5, "kept": 0.25, "assumed_union": 0.6}, 5 * 5 + 5),
    ],
)
def test_a_run_without_tensors_reads_what_is_assumed(name, settings, rows):
    problem = generation(1, 40, group=4)
    program, _ = run(name, problem, None, **settings)
    assert moved_bytes(program, "v") == rows * row_bytes(problem)
    assert program.statistics == {"exact_fraction": 0, "union_fraction": rows / 40}


def test_exact_steps_are_left_out_of_the_shares():
    problem = generation(10, 40)
    tensors = normal_tensors(problem, 12)
    program, output = run("topk", problem, tensors, k=2, exact_steps=4, **FP32)
    np.testing.assert_allclose(output[:4], dense(problem, tensors)[:4], atol=1e-5)
    assert program.statistics["exact_fraction"] == 0.4
    assert program.statistics["union_fraction"] == 12 / sum(range(35, 41))
    program, _ = run("sift", problem, tensors)
    assert program.statistics == {"exact_fraction": 1}


@pytest.mark.parametrize("name", KERNELS)
def test_the_engines_agree(name):
    problem = generation(5, 40, heads=3, group=2, dtype="fp16")
    program, _ = run(name, problem, normal_tensors(problem, 13), **SETTINGS[name])
    fast, slow = compiled.schedule(program, MACHINE), reference.schedule(program, MACHINE)
    np.testing.assert_array_equal(fast.end, slow.end)
    np.testing.assert_array_equal(fast.start, slow.start)


def test_a_gather_waits_for_the_rows_it_is_to_fetch():
    problem = generation(1, 200, dtype="fp16")
    program, _ = run("topk", problem, None, k=20)
    times = compiled.schedule(program, MACHINE)
    codes = program.op_codes
    (gather,), (compact,) = np.flatnonzero(codes == Op.GATHER), np.flatnonzero(codes == Op.COMPACT)
    assert times.start[gather] >= times.end[compact]
    assert program.ops[gather, D] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "given"}, "found rule given without c, allowed: c with the rule given"),
        ({"c": 2.0}, "found rule fit with c, allowed: c with the rule given"),
    ],
)
def test_the_given_rule_and_its_number_come_together(settings, message):
    with pytest.raises(ConfigError, match=message):
        run("sift", generation(2, 4), None, **settings)


def test_a_unit_without_an_op_is_refused():
    costs = MACHINE.vector.costs.model_copy(update={"compact": None})
    vector = MACHINE.vector.model_copy(update={"costs": costs})
    machine = MACHINE.model_copy(update={"vector": vector})
    program, _ = run("topk", generation(1, 40), None, k=3, machine=machine)
    with pytest.raises(DoesNotFitError) as error:
        compiled.schedule(program, machine)
    assert str(error.value) == (
        "machine ascend-910b-no-l2: its vector unit has no compact, which topk on generation uses; "
        "give vector.costs.compact to add it"
    )


def test_scores_that_do_not_fit_are_refused_with_their_sizes():
    machine = load_machine("edge-npu", {"scratchpad.capacity": "16 KiB"})
    with pytest.raises(DoesNotFitError) as error:
        run("split_kv", generation(1, 4096, group=4), None, splits=1, machine=machine)
    assert "split_kv on generation does not fit the scratchpad of machine edge-npu" in str(
        error.value
    )
    assert "x 1 x 4x4096 = 65536 B" in str(error.value)
