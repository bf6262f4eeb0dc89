"""The calibration of a tiny model against what it captures, in memory and through a file."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from accelsim.errors import AccelsimError
from accelsim.quantization import channel_groups as channel_groups_module
from accelsim.quantization.calibration import (
    Calibration,
    SampledText,
    Sampling,
    StoredWeights,
    calibrate,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.gptq import compensated, second_moments
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.version import VERSION
from accelsim.workload.archives import read_arrays, write_safetensors
from accelsim.workload.model.capture import INPUT_OF, capture_ids
from accelsim.workload.model.language import load_model
from accelsim.workload.model.texts import CALIBRATED_KINDS, KINDS
from accelsim.workload.safetensors_file import read_header, read_metadata
from accelsim.workload.tensors import GemmTensors
from tests.tiny_model import FFN, HIDDEN, TEXT

OPTIONS = GroupOptions(
    base="static", groups=4, chunk_rows=4, first_rows=1, use_bias=True, rounding="best"
)
SAMPLING = Sampling(windows=2, window=6, first_token=3)
INPUTS = ("qkv_input", "o_input", "gate_up_input", "down_input")


@pytest.fixture
def calibration(text):
    return calibrate("smollm2", OPTIONS, SAMPLING, text)


@pytest.fixture
def coded(text):
    """A calibration that has weights."""
    return calibrate("smollm2", GroupOptions(groups=1), SAMPLING, text, weight_bits=4)


def tensors(linear, model="smollm2", k=HIDDEN, n=2):
    return GemmTensors(np.zeros((3, k)), np.zeros((k, n)), linear, model)


def seen_in_windows():
    """Return what the linears take in while the windows of SAMPLING are read, window by window."""
    model = load_model("smollm2")
    ids = model.tokenizer.encode(TEXT)
    return [capture_ids(model, ids[start : start + 6], [0, 1]) for start in (3, 9)]


def same(one, other):
    parts = ("bias", "group", "scale", "channel_peaks", "clipped")
    equal = (np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)
    return one.options == other.options and all(equal)


def test_groups_are_those_of_the_inputs_that_windows_capture(calibration):
    seen = seen_in_windows()
    names = [f"layer{layer}.{name}" for layer in (0, 1) for name in INPUTS]
    assert list(calibration.inputs) == names
    for name in names:
        expected = channel_groups(np.stack([each[name] for each in seen]), OPTIONS)
        assert same(calibration.inputs[name], expected), name


def test_rotated_groups_are_those_of_rotated_inputs_and_peaks_of_inputs_as_they_are(text):
    options = GroupOptions(groups=4, ranges="typical", rotation="hadamard", rotation_block=16)
    made, seen = calibrate("smollm2", options, SAMPLING, text), seen_in_windows()
    for name, found in made.inputs.items():
        rotation = hadamard_rotation(found.k, 16)
        samples = [rotation.of_activations(each[name]) for each in seen]
        expected = channel_groups(np.stack(samples), options)
        peaks = np.abs([each[name] for each in seen]).max((0, 1))
        assert same(found, replace(expected, channel_peaks=peaks)), name


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
def test_weights_are_coded_by_what_their_linear_takes_in(text, rotation):
    options = GroupOptions(groups=1, rotation=rotation)
    made, seen = calibrate("smollm2", options, SAMPLING, text, weight_bits=4), seen_in_windows()
    assert made.provenance.weight_bits == 4
    linears = load_model("smollm2").weights.layers[1].linears
    assert list(made.weights) == [f"layer{layer}.{name}" for layer in (0, 1) for name in linears]
    for name, weight in linears.items():
        x, w = np.concatenate([each[f"layer1.{INPUT_OF[name]}"] for each in seen]), weight.T
        turn = options.rotation_of(len(w))
        if turn is not None:
            x, w = turn.of_activations(x), turn.of_weights(w)
        # Columns do not depend on each other, nor on which linear they belong to.
        expected = compensated(w, second_moments(x), 4)
        found = made.weights_of(tensors(f"layer1.{name}", k=len(w), n=len(weight)))
        np.testing.assert_array_equal(found.codes, expected.codes)
        np.testing.assert_array_equal(found.scale, expected.scale)


def test_weights_are_left_out_unless_they_are_asked_for(calibration):
    assert (calibration.weights, calibration.provenance.weight_bits) == ({}, None)


def test_linears_that_share_an_input_share_its_groups(calibration):
    found = {name: calibration.groups_of(tensors(f"layer1.{name}")) for name in "qkv"}
    assert found["q"] is found["k"] is found["v"] is calibration.inputs["layer1.qkv_input"]
    assert calibration.groups_of(tensors("layer0.down", k=FFN)).k == FFN


def test_where_it_comes_from_is_told(calibration, text):
    provenance = calibration.provenance
    assert (provenance.model, provenance.version) == ("smollm2", VERSION)
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    assert provenance.texts == (SampledText(name=str(text), sha256=digest),)
    assert (provenance.options, provenance.sampling) == (OPTIONS, SAMPLING)


def test_without_a_text_a_mixture_is_read_and_others_are_left_to_be_judged_on(installed):
    found = calibrate(installed, OPTIONS, SAMPLING)
    assert [text.name for text in found.provenance.texts] == ["reference", "code", "novel"]
    assert set(CALIBRATED_KINDS) < set(KINDS)


def test_a_mixture_is_all_windows_of_all_texts(text, tmp_path):
    other = tmp_path / "o.txt"
    other.write_text(TEXT[::-1])
    found = calibrate("smollm2", OPTIONS, SAMPLING, [text, other])
    alone = [calibrate("smollm2", OPTIONS, SAMPLING, each) for each in (text, other)]
    for name, groups in found.inputs.items():
        peaks = np.maximum(*(each.inputs[name].channel_peaks for each in alone))
        np.testing.assert_array_equal(groups.channel_peaks, peaks)


def test_the_share_of_clipped_codes_is_kept(calibration, tmp_path):
    """Rounding by error clips; of what the calibration saw, as many as the groups say."""
    seen = seen_in_windows()
    for name, groups in calibration.inputs.items():
        for span in groups.spans(6):
            rows = np.stack([each[name][span.start : span.stop] for each in seen])
            values = (rows - groups.bias[span.chunk]) / groups.channel_scales(span.chunk)
            beyond = (values > 127.5) | (values < -128.5)
            assert groups.clipped[span.chunk] == pytest.approx(beyond.mean(), abs=1e-12)
    assert max(groups.clipped.max() for groups in calibration.inputs.values()) > 0


def test_progress_counts_the_layers(text):
    steps = []
    calibrate("smollm2", OPTIONS, SAMPLING, text, lambda *step: steps.append(step))
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_what_is_saved_is_loaded(calibration, tmp_path):
    path = tmp_path / "c.safetensors"
    save_calibration(calibration, path)
    loaded = load_calibration(path)
    assert loaded.provenance == calibration.provenance
    assert loaded.inputs.keys() == calibration.inputs.keys()
    for name, groups in calibration.inputs.items():
        assert same(loaded.inputs[name], groups), name
    assert load_calibration(path) is loaded


def test_weights_that_are_saved_are_loaded(coded, tmp_path):
    path = tmp_path / "c.safetensors"
    save_calibration(coded, path)
    loaded = load_calibration(path)
    assert loaded.provenance == coded.provenance
    assert loaded.weights.keys() == coded.weights.keys()
    for name, (codes, scale) in coded.weights.items():
        np.testing.assert_array_equal(loaded.weights[name].codes, codes)
        np.testing.assert_array_equal(loaded.weights[name].scale, scale)


def test_a_file_written_anew_is_read_anew(calibration, tmp_path):
    path = tmp_path / "c.safetensors"
    save_calibration(calibration, path)
    load_calibration(path)
    shorter = Calibration(
        calibration.provenance, {"layer0.x": calibration.inputs["layer0.o_input"]}
    )
    save_calibration(shorter, path)
    assert list(load_calibration(path).inputs) == ["layer0.x"]


def message(function, *arguments):
    with pytest.raises(AccelsimError) as raised:
        function(*arguments)
    return str(raised.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            tensors(None),
            "a calibration is for the linears of a model, found tensors from elsewhere; allowed: "
            "`accelsim quality --linear`, or a workload with `source: model`",
        ),
        (
            tensors("layer0.q", model="other"),
            "the calibration is of model 'smollm2', found layer0.q of model 'other'",
        ),
        (
            tensors("layer0.q", k=8),
            "layer0.q: the calibration has 64 input channels, found 8",
        ),
        (
            tensors("layer2.q"),
            "unknown linear of the calibration 'layer2.q', did you mean 'layer1.q'?; known: "
            "layer0.down, layer0.gate, layer0.k, layer0.o, layer0.q, layer0.up, layer0.v, "
            "layer1.down, layer1.gate, layer1.k, layer1.o, layer1.q, layer1.up, layer1.v",
        ),
    ],
)
def test_tensors_that_it_is_not_for(calibration, given, expected):
    assert message(calibration.groups_of, given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            tensors("layer0.q", n=2),
            "layer0.q: the calibration has weights [64, 64], found [64, 2]",
        ),
        (
            tensors("layer0.q", model="other"),
            "the calibration is of model 'smollm2', found layer0.q of model 'other'",
        ),
        (
            tensors("layer2.q"),
            "unknown linear of the calibration 'layer2.q', did you mean 'layer1.q'?; known: "
            "layer0.down, layer0.gate, layer0.k, layer0.o, layer0.q, layer0.up, layer0.v, "
            "layer1.down, layer1.gate, layer1.k, layer1.o, layer1.q, layer1.up, layer1.v",
        ),
    ],
)
def test_tensors_that_its_weights_are_not_for(coded, given, expected):
    assert message(coded.weights_of, given) == expected


def test_bits_of_weights_that_there_are_none_of(text):
    assert message(lambda: calibrate("smollm2", OPTIONS, SAMPLING, text, weight_bits=5)) == (
        "bits: found 5, allowed: 4 or 8"
    )


def test_more_groups_than_channels(monkeypatch, text):
    """No real model has so few, and no calibration more than 32 groups."""
    monkeypatch.setattr(channel_groups_module, "LARGEST_GROUPS", 99)
    assert message(calibrate, "smollm2", GroupOptions(groups=65), SAMPLING, text) == (
        "layer0.qkv_input: groups: found 65 of 64 channels, allowed: up to 64"
    )


def test_a_block_of_a_rotation_that_does_not_divide_the_channels(text):
    options = GroupOptions(groups=4, rotation="hadamard", rotation_block=64)
    assert message(calibrate, "smollm2", options, SAMPLING, text) == (
        "layer0.down_input: rotation: block: found 64 of 96 channels, allowed: powers of two up "
        "to 32"
    )


def test_an_empty_text(tmp_path, installed):
    path = tmp_path / "empty.txt"
    path.write_text("")
    assert message(calibrate, installed, OPTIONS, SAMPLING, path) == (
        f"text {path} has 0 tokens; found 2 windows of 6 from token 3 on, allowed: texts of 6 "
        "tokens or more, or a smaller window"
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"windows": 0}, "windows: found 0, allowed: 1 or more"),
        ({"window": 0}, "window: found 0, allowed: 1 or more"),
        ({"first_token": -1}, "first_token: found -1, allowed: 0 or more"),
    ],
)
def test_samplings_that_make_no_sense(changed, expected):
    assert message(lambda: Sampling(**changed)) == expected


@pytest.mark.parametrize(
    ("changed", "found", "allowed"),
    [
        ({"windows": 3}, "3 windows of 6 from token 3", "up to 2 windows there"),
        ({"windows": 64}, "64 windows of 6 from token 3", "up to 2 windows there"),
        ({"first_token": 15}, "2 windows of 6 from token 15", "first_token up to 14, for one"),
    ],
)
def test_a_text_that_is_too_short(text, changed, found, allowed):
    sampling = replace(SAMPLING, **changed)
    assert message(calibrate, "smollm2", OPTIONS, sampling, text).startswith(
        f"text {text} has 20 tokens; found {found} on, allowed: {allowed}"
    )


@pytest.mark.parametrize("sampling", [SAMPLING, replace(SAMPLING, windows=1, first_token=14)])
def test_what_the_message_allows_is_taken(text, sampling):
    assert calibrate("smollm2", OPTIONS, sampling, text).inputs


def test_a_window_that_the_model_cannot_read(text):
    sampling = Sampling(windows=1, window=33, first_token=0)
    assert message(calibrate, "smollm2", OPTIONS, sampling, text) == (
        "window: found 33 tokens, allowed: up to 32, as many as model 'smollm2' reads at once"
    )


def test_a_model_whose_activations_are_not_finite(tiny, text):
    from accelsim.workload.model.release import model_path

    tiny.tensors["blk.0.ffn_norm.weight"][5] = 3e38
    tiny.write(text.with_suffix(".gguf")).replace(model_path("smollm2"))
    assert message(calibrate, "smollm2", OPTIONS, SAMPLING, text).startswith(
        "layer0.gate_up_input: activations: found "
    )


def rewritten(path, change, metadata=None):
    """Write the file at `path` again with its arrays changed."""
    found = {name: (entry.shape,) for name, entry in read_header(path).items()}
    arrays = dict(read_arrays(path, found))
    change(arrays)
    write_safetensors(path, arrays, read_metadata(path) if metadata is None else metadata)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda arrays: arrays.pop("layer0.o_input.scale"),
            "array 'layer0.o_input.scale' is missing, allowed: float64",
        ),
        (
            lambda arrays: arrays.update({"layer0.o_input.group": np.zeros((3, 64), np.int32)}),
            "array 'layer0.o_input.group' is int32, allowed: uint8",
        ),
        (
            lambda arrays: arrays.update({"layer0.o_input.scale": np.ones(2)}),
            "layer0.o_input.scale has shape [2] beside a bias of shape [3, 64]",
        ),
        (
            lambda arrays: arrays.update({"layer0.o_input.bias": np.ones(3, np.float32)}),
            "layer0.o_input.bias has shape [3] beside a bias of shape [3]",
        ),
        (
            lambda arrays: arrays.update({"layer0.o_input.scale": np.array([1, np.nan, 1])}),
            "layer0.o_input.scale: found 1 of 3 infinite or NaN, allowed: finite numbers",
        ),
        (
            lambda arrays: arrays["layer0.o_input.group"].fill(4),
            "layer0.o_input: found group 4 and scale 0.01, "
            "allowed: groups below 4 and scales above 0",
        ),
    ],
)
def test_arrays_that_are_damaged(calibration, tmp_path, change, expected):
    path = tmp_path / "c.safetensors"
    groups = calibration.inputs["layer0.o_input"]
    groups = replace(groups, scale=np.full(3, 0.01))
    save_calibration(Calibration(calibration.provenance, {"layer0.o_input": groups}), path)
    rewritten(path, lambda arrays: arrays.update({k: v.copy() for k, v in arrays.items()}))
    rewritten(path, lambda arrays: copied(arrays, change))
    assert message(load_calibration, path) == f"{path}: {expected}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda arrays: arrays.pop("layer0.q.weight_scale"),
            "array 'layer0.q.weight_scale' is missing, allowed: float64",
        ),
        (
            lambda arrays: arrays.update({"layer0.q.weight_codes": np.zeros((64, 64), np.int16)}),
            "array 'layer0.q.weight_codes' is int16, allowed: int8",
        ),
        (
            lambda arrays: arrays.update({"layer0.q.weight_scale": np.ones((1, 2))}),
            "layer0.q.weight_scale has shape [1, 2] beside codes of shape [64, 64]",
        ),
        (
            lambda arrays: arrays["layer0.q.weight_scale"].fill(np.inf),
            "layer0.q.weight_scale: found 64 of 64 infinite or NaN, allowed: finite numbers",
        ),
        (
            lambda arrays: arrays["layer0.q.weight_scale"].fill(0),
            "layer0.q: found a weight of 8 and scale 0.0, allowed: up to 8 and scales above 0",
        ),
        (
            lambda arrays: arrays["layer0.q.weight_codes"].fill(-9),
            "layer0.q: found a weight of 9 and scale 0.5, allowed: up to 8 and scales above 0",
        ),
    ],
)
def test_weights_that_are_damaged(coded, tmp_path, change, expected):
    path = tmp_path / "c.safetensors"
    weights = StoredWeights(np.full((64, 64), 8, np.int8), np.full((1, 64), 0.5))
    save_calibration(Calibration(coded.provenance, {}, {"layer0.q": weights}), path)
    rewritten(path, lambda arrays: copied(arrays, change))
    assert message(load_calibration, path) == f"{path}: {expected}"


def test_weights_of_no_bits(coded, tmp_path):
    path = tmp_path / "c.safetensors"
    provenance = replace(coded.provenance, weight_bits=None)
    weights = {"layer0.q": coded.weights["layer0.q"]}
    save_calibration(Calibration(provenance, {}, weights), path)
    assert message(load_calibration, path) == (
        f"{path}: layer0.q: found codes of weights, and no bits of them"
    )


def copied(arrays, change):
    arrays.update({name: values.copy() for name, values in arrays.items()})
    change(arrays)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "found no calibration; allowed: what `accelsim calibrate` wrote"),
        (
            {"accelsim calibration": "{"},
            "its provenance is damaged (Invalid JSON: EOF while parsing an object at line 1 "
            "column 1)",
        ),
        ({"accelsim calibration": "{}"}, "its provenance is damaged (Field required)"),
        (
            {"accelsim calibration": '{"text_sha256": ""}'},
            "found a calibration of accelsim 0.2.0 or before, which does not say what was clipped; "
            "allowed: what `accelsim calibrate` writes now",
        ),
    ],
)
def test_a_file_without_its_provenance(calibration, tmp_path, metadata, expected):
    path = tmp_path / "c.safetensors"
    save_calibration(calibration, path)
    rewritten(path, lambda arrays: None, metadata)
    assert message(load_calibration, path) == f"{path}: {expected}"


def test_options_that_were_never_possible(calibration, tmp_path):
    path = tmp_path / "c.safetensors"
    save_calibration(calibration, path)
    (key, provenance) = next(iter(read_metadata(path).items()))
    changed = provenance.replace('"bits":8', '"bits":5')
    assert changed != provenance
    rewritten(path, lambda arrays: None, {key: changed})
    assert message(load_calibration, path) == (
        f"{path}: its provenance is damaged (bits: found 5, allowed: 4 or 8)"
    )


def test_files_that_are_something_else(calibration, tmp_path):
    npz, missing, damaged = (
        tmp_path / name for name in ("c.npz", "m.safetensors", "d.safetensors")
    )
    assert message(save_calibration, calibration, npz) == (
        f"{npz}: found the ending '.npz', allowed: .safetensors"
    )
    assert message(load_calibration, missing) == (
        f"{missing}: cannot be read (No such file or directory)"
    )
    damaged.write_bytes(b"nothing")
    assert message(load_calibration, damaged) == (
        f"{damaged}: damaged or not a safetensors file (the header is longer than the file)"
    )
