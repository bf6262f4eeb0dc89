"""A real network whose kernels draft for it."""

import json

import numpy as np
import pytest

from accelsim.errors import AccelsimError, WorkloadError
from accelsim.library.kernels import Kernels
from accelsim.quality.evaluate import evaluate
from accelsim.quality.passages import Reading, Writing
from accelsim.quality.rejection import turn
from accelsim.quality.speculate import speculate
from accelsim.workload.model.forward import final_states
from accelsim.workload.model.language import load_model

IN_FP32 = {"workload.dtype": "fp32"}
MACHINE = "edge-npu"
EXACT, LOSSY = "split_kv(precision=fp32)", "window(window=3, sinks=1, precision=fp32)"


def asked(text, kernel, **others):
    return speculate("smollm2", kernel, IN_FP32, MACHINE, Writing(text, 12, 12), **others)


def test_a_draft_that_computes_what_the_target_does_is_kept(text):
    report = asked(text, EXACT, length=3)
    assert report.accepted == (3, 3, 3)
    assert (report.tokens_per_turn, report.accepted_shares) == (4.0, (1.0, 1.0, 1.0))
    assert len(report.token_ids) == 12


@pytest.mark.parametrize("kernel", [EXACT, LOSSY])
def test_what_is_written_is_that_of_whole_passes(text, kernel):
    """Keys and values that stay from dropped tokens would change the laws."""
    model = load_model("smollm2")
    weights = model.weights

    def target(ids, count):
        logits = final_states(weights, ids)[-count:] @ weights.head.T
        laws = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
        return laws / laws.sum(axis=1, keepdims=True)

    ids, rng, expected = model.token_ids(text.read_text(), 12), np.random.default_rng(5), []
    report = asked(text, kernel, length=2, seed=5)
    if kernel is EXACT:
        while len(expected) < 12:
            expected += turn(target, target, ids + expected, 2, rng)
        assert list(report.token_ids) == expected
    else:
        assert min(report.accepted) < 2
        assert report.to_dict()["accepted"] == list(report.accepted)


def test_a_report_is_plain_data(text):
    data = asked(text, LOSSY, length=2).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["tokens_per_turn"] == 1 + np.mean(data["accepted"])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"length": 0}, "length: found 0, allowed: 1 to 8 tokens of a draft"),
        ({"length": 9}, "length: found 9, allowed: 1 to 8 tokens of a draft"),
        ({"seed": -1}, "seed: found -1, allowed: 0 or more"),
    ],
)
def test_mistakes(text, others, message):
    with pytest.raises(WorkloadError) as caught:
        asked(text, EXACT, **others)
    assert str(caught.value) == message


def test_no_kernel(text):
    with pytest.raises(AccelsimError, match="found no kernel"):
        asked(text, Kernels())


def test_quality_tells_how_much_of_a_draft_is_accepted(text):
    report = evaluate(
        "smollm2", "flash(precision=fp32)", IN_FP32, MACHINE, Reading(text, tokens=16, window=8)
    )
    assert report.acceptance.value == pytest.approx(1.0, abs=1e-5)
    assert report.accepted_shares == pytest.approx([1.0] * 8, abs=1e-4)
    assert report.greedy_accepted_shares == (1.0,) * 8
    data = report.to_dict()
    assert data["accepted_shares"] == list(report.accepted_shares)
    assert data["texts"][0]["acceptance"] == report.acceptance.value
