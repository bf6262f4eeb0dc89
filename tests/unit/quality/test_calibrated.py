"""The linears of the network by a kernel that is told by a calibration what to expect."""

from dataclasses import replace

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.errors import AccelsimError, ClippingWarning, SamePagesWarning
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.numerics.formats import Format
from accelsim.quality.evaluate import evaluate
from accelsim.quality.linear import KernelLinear
from accelsim.quality.passages import Reading
from accelsim.quantization.calibration import Calibration, Sampling, best_options, calibrate
from accelsim.quantization.calibration_file import save_calibration
from accelsim.quantization.channel_groups import GroupOptions
from accelsim.quantization.schemes import per_column
from accelsim.quantization.statements import grouped_product
from accelsim.workload.model.capture import INPUT_OF, capture_ids
from accelsim.workload.model.language import load_model
from tests.tiny_model import TEXT

SAMPLING = Sampling(windows=1, window=8, first_token=8)
"""What lies before is evaluated."""


@pytest.fixture
def calibrated(text, tmp_path):
    """Make a calibration, and return it with its file."""

    def make(**options):
        made = calibrate("smollm2", GroupOptions(**options), SAMPLING, text)
        path = tmp_path / f"{options.get('bits', 8)}.safetensors"
        save_calibration(made, path)
        return made, path

    return make


def evaluated(text, path, tokens=8, **parameters):
    recipe = Recipe("tender", calibration=path, **parameters)
    settings = {"workload.dtype": "fp32"}
    return evaluate(
        "smollm2", Kernels(linear=recipe), settings, "tender-asic", Reading(text, tokens=tokens)
    )


def test_a_linear_is_computed_with_the_groups_of_its_name(calibrated):
    made, path = calibrated(groups=4)
    model = load_model("smollm2")
    ids = model.tokenizer.encode(TEXT)[:8]
    run = Bench.prepare("tender-asic", Recipe("tender", calibration=path))
    linear = KernelLinear(run, Format.FP32, "smollm2")
    for layer in (0, 1):
        x = capture_ids(model, ids, [layer])[f"layer{layer}.down_input"]
        weight = model.weights.layers[layer].linears["down"]
        groups = made.inputs[f"layer{layer}.down_input"]
        expected = grouped_product(x, per_column(weight.T, 8), groups)
        # Integer sums are exact; scaling them and adding the bias rounds to FP32, some steps of it.
        found = linear(layer, "down", x, weight)
        np.testing.assert_allclose(found, expected, atol=8 * 2.0**-24 * np.abs(expected).max())


def test_eight_bits_cost_little_and_four_bits_more(calibrated, text):
    eight = evaluated(text, calibrated()[1])
    four = evaluated(text, calibrated(bits=4)[1], activation_bits=4, weight_bits=4)
    # The perplexity of random weights is that of a guess: either may gain. Losses move by what the
    # steps are worth, 2^4 times as much with 4 bits.
    assert 0 < abs(eight.nll_change.value) < abs(four.nll_change.value)
    assert eight.nonfinite_outputs == four.nonfinite_outputs == 0
    assert four.linears.hbm_read_bytes < eight.linears.hbm_read_bytes


def test_a_calibration_of_another_model(calibrated, text):
    made, path = calibrated()
    provenance = replace(made.provenance, model="other")
    save_calibration(Calibration(provenance, made.inputs), path)
    with pytest.raises(AccelsimError) as raised:
        evaluated(text, path)
    assert str(raised.value) == (
        "the calibration is of model 'other', found layer0.q of model 'smollm2'"
    )


def test_a_text_is_known_by_its_content_and_pages_are_warned_of(calibrated, text, tmp_path):
    path = calibrated()[1]
    copy, other = tmp_path / "copy.txt", tmp_path / "other.txt"
    copy.write_text(TEXT)
    other.write_text(TEXT[::-1])
    with pytest.warns(SamePagesWarning) as caught:
        report = evaluated([copy, other], path, tokens=9)
    assert [each.is_calibrated_on for each in report.texts] == [True, False]
    assert report.unseen.nll == report.texts[1].nll
    (warning,) = caught
    assert str(warning.message) == (
        f"text {copy}: tokens from 8 on were calibrated on, and 9 are evaluated; read fewer, or "
        "another text"
    )


def test_other_pages_of_the_same_text_are_no_reason_to_warn(calibrated, text):
    assert evaluated(text, calibrated()[1]).texts[0].is_calibrated_on


@pytest.mark.parametrize("bits", [8, 4])
def test_codes_that_are_clipped_more_often_than_in_the_calibration(text, tmp_path, bits):
    """One word again and again shows little of what another has."""
    quiet, loud = tmp_path / "quiet.txt", tmp_path / "loud.txt"
    quiet.write_text("hello hello hello hello hello hello")
    loud.write_text("w" * 30)
    options = GroupOptions(base="static", groups=2, bits=bits)
    path = tmp_path / "quiet.safetensors"
    sampling = replace(SAMPLING, window=5, first_token=0)
    save_calibration(calibrate("smollm2", options, sampling, quiet), path)
    with pytest.warns(ClippingWarning) as caught:
        found = evaluated(loud, path, activation_bits=bits).linears.statistics
    assert found["codes_clipped"] > 2 * found["codes_clipped_in_calibration"]
    assert str(caught[0].message) == (
        f"tender: {found['codes_clipped']:.3%} of the codes are clipped, 0.000% in the "
        "calibration: it has not seen such text; calibrate on more kinds of text, or take "
        "base=row, whose range follows the text"
    )


@pytest.fixture
def four_bits(text, tmp_path):
    """A calibration of the default form of 4 bits on the first 8 tokens, and its file."""
    sampling = replace(SAMPLING, first_token=0)
    made = calibrate("smollm2", best_options(4), sampling, text, weight_bits=8)
    path = tmp_path / "four.safetensors"
    save_calibration(made, path)
    return made, path


def test_with_4_bits_rows_clip_in_use_what_they_clipped_in_the_calibration(four_bits):
    """Every linear with the inputs that the calibration saw; those of a layer come from FP32."""
    made, path = four_bits
    model = load_model("smollm2")
    run = Bench.prepare("tender-asic", Recipe("tender", calibration=path, activation_bits=4))
    linear = KernelLinear(run, Format.FP32, "smollm2")
    seen = capture_ids(model, model.tokenizer.encode(TEXT)[:8], [0, 1])
    for name, groups in made.inputs.items():
        layer, _, read = name.partition(".")
        number = int(layer.removeprefix("layer"))
        (own, *_) = (each for each, source in INPUT_OF.items() if source == read)
        linear(number, own, seen[name], model.weights.layers[number].linears[own])
        told = linear.reports[-1].statistics
        (share,) = groups.clipped
        assert told["codes_clipped"] == told["codes_clipped_in_calibration"] == share > 0


def test_rows_that_clip_more_often_than_in_the_calibration(four_bits, text, tmp_path):
    made, path = four_bits
    seldom = {
        name: replace(groups, clipped=groups.clipped / 4) for name, groups in made.inputs.items()
    }
    save_calibration(replace(made, inputs=seldom), path)
    other = tmp_path / "other.txt"
    other.write_text(TEXT[::-1])
    with pytest.warns(ClippingWarning) as caught:
        found = evaluated(other, path, activation_bits=4).linears.statistics
    assert str(caught[0].message) == (
        f"tender: {found['codes_clipped']:.3%} of the codes are clipped, "
        f"{found['codes_clipped_in_calibration']:.3%} in the calibration: it has not seen such "
        "text; calibrate on more kinds of text, or let rows try more candidates"
    )
