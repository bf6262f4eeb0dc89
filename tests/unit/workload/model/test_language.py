"""Models by path: found, told apart by content, and used for everything that a release is."""

import hashlib
import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from accelsim.errors import AccelsimError, ShortageError, UnknownNameError, WorkloadError
from accelsim.library.kernels import Kernels
from accelsim.quality.evaluate import evaluate
from accelsim.quality.passages import Reading
from accelsim.quantization.calibration import Sampling, calibrate
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions
from accelsim.sweeps.contents import read_contents
from accelsim.workload.model.capture import capture
from accelsim.workload.model.forward import token_losses
from accelsim.workload.model.language import load_model
from accelsim.workload.model.place import find_model
from accelsim.workload.problem import Workload
from accelsim.workload.tensors import load_tensors
from tests.checkpoints import CONFIGS, tensors_of, write_folder, write_gguf
from tests.tiny_model import TEXT

OPENING = 200
FLOAT32_EXPONENTIALS = 1e-7
"""`token_losses` takes them of float32 logits, an evaluation of float64."""


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(params=["gguf", "folder", "shards"])
def model(request, tmp_path):
    """Path of the same small model in each form."""
    config = CONFIGS["gemma3"]
    tensors = tensors_of(config)
    if request.param == "gguf":
        return write_gguf(tmp_path / "x.gguf", config, tensors)
    return write_folder(tmp_path / "x", config, tensors, shards=1 + 2 * (request.param == "shards"))


@pytest.fixture
def opening(tiny, tmp_path):
    """Path of a model whose texts open with a token."""
    tiny.metadata |= {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": OPENING}
    return tiny.write(tmp_path / "opening.gguf")


def test_every_form_evaluates_and_calibrates(model, text_file, tmp_path):
    report = evaluate(
        str(model),
        "flash",
        machine="ascend-910b-no-l2",
        reading=Reading(text_file, tokens=8, window=8),
    )
    ids = load_model(str(model)).token_ids(TEXT, 9)
    expected = token_losses(load_model(str(model)).weights, ids).mean()
    assert report.fp32_nll == pytest.approx(expected, rel=FLOAT32_EXPONENTIALS)
    assert report.model == load_model(str(model)).name
    sampling = Sampling(windows=2, window=4, first_token=8)
    found = calibrate(str(model), GroupOptions(groups=2), sampling, text_file)
    assert found.provenance.model == report.model
    save_calibration(found, tmp_path / "c.safetensors")
    recipe = f"tender(calibration={tmp_path / 'c.safetensors'})"
    report = evaluate(
        str(model),
        Kernels(linear=recipe),
        machine="tender-asic",
        reading=Reading(text_file, tokens=8, window=8),
    )
    assert report.nonfinite_losses == 0
    assert report.linears.workload == f"{report.model} on {text_file}"


def test_all_forms_predict_alike(tmp_path):
    config = CONFIGS["qwen2"]
    tensors = tensors_of(config)
    write_gguf(tmp_path / "x.gguf", config, tensors)
    write_folder(tmp_path / "x", config, tensors)
    one, other = (load_model(str(tmp_path / name)) for name in ("x.gguf", "x"))
    ids = one.token_ids(TEXT, 20)
    assert other.token_ids(TEXT, 20) == ids
    np.testing.assert_array_equal(token_losses(one.weights, ids), token_losses(other.weights, ids))


def test_a_model_is_known_by_its_content(tiny, tmp_path):
    first = tiny.write(tmp_path / "x.gguf")
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    assert load_model(str(first)).name == f"x.gguf@{digest[:12]}"
    (tmp_path / "other").mkdir()
    moved = first.rename(tmp_path / "other" / "x.gguf")
    assert find_model(str(moved)).name == f"x.gguf@{digest[:12]}"
    tiny.tensors["output_norm.weight"] *= 2
    tiny.write(moved)
    assert find_model(str(moved)).name != f"x.gguf@{digest[:12]}"
    assert load_model(str(moved)).weights.final_norm[0] == tiny.tensors["output_norm.weight"][0]


def test_a_calibration_is_for_the_model_whose_content_it_read(tiny, text_file, tmp_path):
    path = tiny.write(tmp_path / "x.gguf")
    sampling = Sampling(windows=1, window=4, first_token=8)
    found = calibrate(str(path), GroupOptions(groups=2), sampling, text_file)
    save_calibration(found, tmp_path / "c.safetensors")
    before = load_calibration(tmp_path / "c.safetensors").provenance.model
    tiny.tensors["output_norm.weight"] *= 2
    tiny.write(path)
    recipe = f"tender(calibration={tmp_path / 'c.safetensors'})"
    with pytest.raises(AccelsimError) as raised:
        evaluate(
            str(path),
            Kernels(linear=recipe),
            machine="tender-asic",
            reading=Reading(text_file, tokens=8, window=8),
        )
    assert f"the calibration is of model '{before}'" in str(raised.value)
    assert f"of model '{find_model(str(path)).name}'" in str(raised.value)


def test_a_window_opens_as_the_model_was_trained_to_see_it(opening, text_file):
    report = evaluate(
        str(opening),
        "flash",
        machine="ascend-910b-no-l2",
        reading=Reading(text_file, tokens=6, window=4),
    )
    model = load_model(str(opening))
    ids = model.token_ids(TEXT, 6)
    windows = ([OPENING, *ids[:4]], [OPENING, *ids[4:]])
    expected = np.concatenate([token_losses(model.weights, window) for window in windows])
    # The first token of a window is predicted from the opening alone; as many predictions as ever.
    assert len(expected) == report.tokens == 6
    assert report.fp32_nll == pytest.approx(expected.mean(), rel=FLOAT32_EXPONENTIALS)


def test_what_is_captured_opens_alike(opening, text_file, tmp_path):
    model = load_model(str(opening))
    plain = [OPENING, *model.token_ids(TEXT, 5)]
    seen = capture(model, TEXT, 6, [0])["layer0.qkv_input"]
    norm = model.weights.layers[0].attention_norm
    states = model.weights.embedding[plain]
    expected = states / np.sqrt((states**2).mean(axis=1, keepdims=True) + 1e-5) * norm
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    sampling = Sampling(windows=2, window=6, first_token=0)
    found = calibrate(str(opening), GroupOptions(use_bias=True, base="static"), sampling, text_file)
    second = capture(model, " " + TEXT[len("hello wo") :], 6, [0])
    assert len(second["layer0.qkv_input"]) == 6
    assert found.inputs["layer0.qkv_input"].k == 64


def test_a_workload_takes_a_model_beside_it(tiny, text_file, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tiny.write(tmp_path / "x.gguf")
    source = {"source": "model", "model": "x.gguf", "layer": 1, "linear": "q", "text": "t.txt"}
    contents = {"kind": "gemm", "name": "x", "m": 6, "n": 64, "k": 64, "dtype": "fp32"}
    problem = TypeAdapter(Workload).validate_python(contents | {"tensors": source})
    tensors = load_tensors(problem, tmp_path)
    model = load_model("x.gguf", tmp_path)
    np.testing.assert_array_equal(tensors.b, model.weights.layers[1].linears["q"].T)
    assert (tensors.linear, tensors.model) == ("layer1.q", model.name)
    (tmp_path / "w.yaml").write_text(json.dumps(contents | {"tensors": source}))
    digests = read_contents("workload", str(tmp_path / "w.yaml"), {})["file_digests"]
    assert digests[0] == hashlib.sha256((tmp_path / "x.gguf").read_bytes()).hexdigest()


def test_a_folder_has_a_digest_of_all_that_is_read(tmp_path):
    folder = write_folder(tmp_path / "x", CONFIGS["llama"], tensors_of(CONFIGS["llama"]), shards=2)
    before = find_model(str(folder)).digest()
    (folder / "README.md").write_text("not read")
    assert find_model(str(folder)).digest() == before
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert find_model(str(folder)).digest() != before


def test_what_is_no_model(tmp_path):
    with pytest.raises(UnknownNameError) as raised:
        load_model(str(tmp_path / "smollm2"))
    assert str(raised.value) == (
        f"unknown model '{tmp_path}/smollm2'; known: gemma3-270m, qwen2.5-coder-0.5b, smollm2, "
        "or the path of a GGUF file or of a folder with config.json"
    )
    with pytest.raises(UnknownNameError):
        load_model("")
    with pytest.raises(WorkloadError) as raised:
        load_model(str(tmp_path))
    assert str(raised.value) == (
        f"{tmp_path}/config.json: cannot be read (No such file or directory)"
    )
    path = tmp_path / "x.gguf"
    path.write_text("weights")
    with pytest.raises(WorkloadError) as raised:
        load_model(str(path))
    assert str(raised.value) == f"{path}: damaged or not a GGUF file: it begins with b'weig'"


def test_a_folder_without_a_tokenizer(tmp_path):
    folder = write_folder(tmp_path / "x", CONFIGS["llama"], tensors_of(CONFIGS["llama"]))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WorkloadError) as raised:
        load_model(str(folder))
    assert str(raised.value) == (
        f"{folder}/tokenizer.json: cannot be read (No such file or directory)"
    )


def test_a_model_that_cannot_be_read_now(tiny, tmp_path, monkeypatch):
    path = tiny.write(tmp_path / "x.gguf")

    def denied(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(ShortageError) as raised:
        find_model(str(path))
    assert str(raised.value) == f"{path}: cannot be read (Permission denied)"
