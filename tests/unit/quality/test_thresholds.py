"""Thresholds of sift that were learned from texts, and what a model does with them."""

from dataclasses import replace

import numpy as np
import pytest

from accelsim.errors import AccelsimError, SamePagesWarning
from accelsim.kernels.attention.decode.power_law import FIT, NUM_SUMS, fitted, observe
from accelsim.kernels.attention.decode.thresholds import load_thresholds, save_thresholds
from accelsim.quality.evaluate import evaluate
from accelsim.quality.passages import Reading
from accelsim.quality.thresholds import learn_thresholds, observed
from accelsim.quantization.calibration import Sampling
from accelsim.workload.archives import write_arrays
from accelsim.workload.model.forward import Hooks, causal_attention, final_states
from accelsim.workload.model.language import load_model
from accelsim.workload.tensors import Reader

MACHINE = "edge-npu"
PAGES = Sampling(windows=1, window=20, first_token=0)
TAUS = (0.5, 0.75)
READER = Reader("layer1.o", "smollm2")


def by_loops(q, k, taus, every):
    """The sums of every head, a row and a weight at a time."""
    sums = np.zeros((len(taus), len(q), NUM_SUMS))
    for head, row in np.ndindex(*q.shape[:2]):
        seen = row + 1
        if seen < 16 or (seen - 16) % every:
            continue
        scores = (
            k[head // (len(q) // len(k)), :seen].astype(float) @ q[head, row] / q.shape[2] ** 0.5
        )
        weights = sorted(np.exp(scores - scores.max()), reverse=True)
        for number, tau in enumerate(taus):
            count = int(np.ceil((1 - tau) * seen))
            observe(sums[number, head], seen, weights[count - 1] / sum(weights))
    return sums


@pytest.mark.parametrize("every", [1, 3])
def test_what_is_observed_is_the_quantile_of_each_row(every):
    rng = np.random.default_rng(5)
    q, k = (rng.standard_normal((h, 24, 8)).astype(np.float32) for h in (4, 2))
    np.testing.assert_allclose(
        observed(q, k, TAUS, every), by_loops(q, k, TAUS, every), rtol=1e-5, atol=1e-5
    )


def test_a_law_that_holds_is_found():
    # Equal scores: all weights are 1 / t, so that the law is t^-1.
    q, k = np.ones((2, 64, 4), np.float32), np.ones((1, 64, 4), np.float32)
    (sums,) = observed(q, k, (0.75,), 1)
    for head in sums:
        np.testing.assert_allclose(fitted(head, FIT), (0, -1), atol=1e-5)


@pytest.fixture
def learned(text, tmp_path):
    path = tmp_path / "t.safetensors"
    save_thresholds(learn_thresholds("smollm2", TAUS, PAGES, text, 2), path)
    return path


def test_every_layer_and_head_has_its_own(learned, text):
    model, seen = load_model("smollm2"), {}

    def attention(layer, q, k, v, window):
        seen[layer] = q, k
        return causal_attention(layer, q, k, v, window)

    ids = model.token_ids(text.read_text(), 20)
    final_states(model.weights, ids, Hooks(attention=attention))
    found = load_thresholds(learned)
    assert found.sums.shape == (2, 2, 4, NUM_SUMS)
    for layer, (q, k) in seen.items():
        np.testing.assert_array_equal(found.sums[:, layer], observed(q, k, TAUS, 2))
    np.testing.assert_array_equal(found.of_layer(0.75, READER, 4), found.sums[1, 1])
    assert found.origin.model == "smollm2"
    assert [each.name for each in found.origin.texts] == [str(text)]


def decode(learned, text, extra=""):
    recipe = f"sift(thresholds={learned}{extra})"
    return evaluate(
        "smollm2", recipe, machine=MACHINE, reading=Reading(text, tokens=19, window=19, prompt=15)
    )


def test_a_generation_selects_from_its_first_step(learned, text):
    with pytest.warns(SamePagesWarning, match="tokens from 0 on were calibrated on"):
        report = decode(learned, text)
    assert report.texts[0].is_calibrated_on
    assert report.attention.statistics["exact_fraction"] == 0
    kept = [each.statistics["kept_fraction"] for each in report.layers]
    assert all(0 < each < 1 for each in kept)
    # Of the same rows a quarter was kept, rounded up, where the law was fitted.
    assert np.mean(kept) == pytest.approx(0.25, abs=0.1)
    with pytest.warns(SamePagesWarning):
        more = decode(learned, text, ", tau=0.5")
    assert more.attention.statistics["kept_fraction"] > np.mean(kept)


@pytest.mark.parametrize(
    ("tau", "reader", "heads", "expected"),
    [
        (0.9, READER, 4, "tau: found 0.9, the thresholds have 0.5, 0.75"),
        (
            0.75,
            None,
            4,
            "thresholds are of the layers of a model, found tensors from elsewhere; allowed: "
            "`accelsim quality`, `accelsim needle` and `accelsim generate`",
        ),
        (
            0.75,
            Reader("layer1.o", "other"),
            4,
            "the thresholds are of model 'smollm2', found layer1.o of model 'other'",
        ),
        (
            0.75,
            READER,
            8,
            "layer1.o: the thresholds have 2 layers of 4 heads, found layer 1 of 8 heads",
        ),
    ],
)
def test_thresholds_of_something_else(learned, tau, reader, heads, expected):
    with pytest.raises(AccelsimError) as raised:
        load_thresholds(learned).of_layer(tau, reader, heads)
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"taus": ()}, "tau: found [], allowed: one or more, each once"),
        ({"taus": (0.5, 0.5)}, "tau: found [0.5, 0.5], allowed: one or more, each once"),
        ({"taus": (1.0,)}, "tau: found 1.0, allowed: above 0 and below 1"),
        ({"every": 0}, "every: found 0, allowed: 1 or more"),
    ],
)
def test_messages(text, keys, expected):
    with pytest.raises(AccelsimError) as raised:
        learn_thresholds("smollm2", **{"sampling": PAGES, "text": text} | keys)
    assert str(raised.value) == expected


def test_files_that_hold_none(tmp_path):
    other = tmp_path / "x.safetensors"
    write_arrays(other, {"sums": np.zeros(3)})
    with pytest.raises(AccelsimError, match="found no thresholds; allowed: what `accelsim thres"):
        load_thresholds(other)
    other.write_bytes(b"x")
    with pytest.raises(AccelsimError, match="damaged or not a safetensors file"):
        load_thresholds(other)
    with pytest.raises(AccelsimError, match=r"found the ending '\.bin', allowed: \.safetensors"):
        save_thresholds(None, tmp_path / "x.bin")


def test_sums_that_are_damaged(learned):
    found = load_thresholds(learned)
    sums = found.sums.copy()
    sums[0, 0, 0, 0] = np.nan
    save_thresholds(replace(found, sums=sums), learned)
    with pytest.raises(AccelsimError, match=r"found sums of shape \[2, 2, 4, 5\] in float64"):
        load_thresholds(learned)


def test_thresholds_with_a_rule_that_is_given(learned, text):
    with pytest.raises(AccelsimError, match="found thresholds with rule given"):
        evaluate(
            "smollm2",
            f"sift(thresholds={learned}, rule=given, c=1)",
            reading=Reading(text, tokens=8),
        )
