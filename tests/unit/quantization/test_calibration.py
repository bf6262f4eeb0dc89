"""The calibration of a tiny model against what it captures, in memory and through a file."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from accelsim.errors import AccelsimError
from accelsim.quantization.calibration import Calibration, SampledText, Sampling, calibrate
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.version import VERSION
from accelsim.workload.archives import read_arrays, write_safetensors
from accelsim.workload.model.capture import capture_ids
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


def tensors(linear, model="smollm2", k=HIDDEN):
    return GemmTensors(np.zeros((3, k)), np.zeros((k, 2)), linear, model)


def same(one, other):
    parts = ("bias", "group", "scale", "channel_peaks", "clipped")
    equal = (np.array_equal(getattr(one, part), getattr(other, part)) for part in parts)
    return one.options == other.options and all(equal)


def test_groups_are_those_of_the_inputs_that_windows_capture(calibration):
    model = load_model("smollm2")
    ids = model.tokenizer.encode(TEXT)
    seen = [capture_ids(model, ids[start : start + 6], [0, 1]) for start in (3, 9)]
    names = [f"layer{layer}.{name}" for layer in (0, 1) for name in INPUTS]
    assert list(calibration.inputs) == names
    for name in names:
        expected = channel_groups(np.stack([each[name] for each in seen]), OPTIONS)
        assert same(calibration.inputs[name], expected), name


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
    model = load_model("smollm2")
    ids = model.tokenizer.encode(TEXT)
    seen = [capture_ids(model, ids[start : start + 6], [0, 1]) for start in (3, 9)]
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
    ("changed", "expected"),
    [
        ({"windows": 0}, "windows: found 0, allowed: 1 or more"),
        ({"window": 0}, "window: found 0, allowed: 1 or more"),
        ({"first_token": -1}, "first_token: found -1, allowed: 0 or more"),
    ],
)
def test_samplings_that_make_no_sense(changed, expected):
    assert message(lambda: Sampling(**changed)) == expected


def test_a_text_that_is_too_short(text):
    sampling = replace(SAMPLING, windows=3)
    assert message(calibrate, "smollm2", OPTIONS, sampling, text) == (
        f"text {text} has 20 tokens, found windows up to token 21; allowed: as many windows as it "
        "has tokens for, or a smaller first_token"
    )


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
