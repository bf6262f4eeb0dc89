"""Workloads that are named by a model, a layer, a step and an operation."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.config.shipped import known_names, shipped_folder
from accelsim.errors import AccelsimError, UnknownNameError, WorkloadError
from accelsim.loading import load_workload
from accelsim.models.layer_names import FORMS, named_problem, renamed
from accelsim.models.loading import load_architecture
from accelsim.models.operations.layer import MAX_TOKENS, layer_of
from accelsim.models.step import Step
from accelsim.numerics.formats import Format
from accelsim.simulation import simulate
from accelsim.sweeps.run import sweep
from accelsim.workload.attention import AttentionProblem
from accelsim.workload.problem import GemmProblem, LayerProblem

CARDS = {
    # Parameters of one decoder layer's matrices; figures of the models' cards.
    "llama-2-7b": 4 * 4096 * 4096 + 3 * 4096 * 11008,
    "llama-3-8b": 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336,
    "opt-6.7b": 12 * 4096 * 4096,
    "qwen2-7b": 2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944,
    "smollm2-135m": 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536,
}


def problem_of(name):
    return load_workload(name).problem


def operations_of(name):
    return {part.problem.name: part.problem for part in problem_of(name).problems}


def refusal_of(model, step):
    """Why the operations of a model are not known; empty where they are."""
    try:
        layer_of(load_architecture(model), step)
    except WorkloadError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("model", CARDS)
@pytest.mark.parametrize(("step", "rows"), [("prefill-2048", 2048), ("decode-2048x3", 3)])
def test_a_layer_multiplies_each_parameter_once_per_token(model, step, rows):
    layer = problem_of(f"{model}/{step}")
    assert isinstance(layer, LayerProblem)
    products = [part for part in layer.problems if isinstance(part.problem, GemmProblem)]
    assert sum(part.count * part.problem.macs for part in products) == rows * CARDS[model]


def test_experts_of_mixtral_are_those_of_its_card():
    """Hidden 4096, FFN 14336, 8 experts, 2 for each token."""
    parts = operations_of("mixtral-8x7b/prefill-4096")
    up, down = parts["experts gate-up"], parts["experts down"]
    assert (up.n, up.k, down.n, down.k) == (2 * 14336, 4096, 4096, 14336)
    assert len(up.rows) == 8
    assert sum(up.rows) == sum(down.rows) == 2 * 4096


@pytest.mark.parametrize("model", known_names("model"))
def test_every_operation_of_every_shipped_model_has_a_name(model):
    for text, step in (("prefill-64x2", Step.prefill(2, 64)), ("decode-64", Step.decode(1, 63))):
        refused = refusal_of(model, step)
        if refused:
            with pytest.raises(WorkloadError) as error:
                problem_of(f"{model}/{text}")
            assert str(error.value) == f"{model}/{text}: {refused}"
            continue
        layer = layer_of(load_architecture(model), step)
        names = [part.problem.name for part in layer.problems]
        assert len(set(names)) == len(names)
        for part in layer.problems:
            own = f"{model}/{text}/{part.problem.name.replace(' ', '-')}"
            assert problem_of(own) == part.problem.model_copy(update={"name": own})


def test_a_layer_is_what_the_model_says_of_it():
    model = load_architecture("gemma-3-27b")
    for name, number, step in (
        ("gemma-3-27b/prefill-2048", 0, Step.prefill(1, 2048)),
        ("gemma-3-27b/layer-5/prefill-2048", 5, Step.prefill(1, 2048)),
        ("gemma-3-27b/decode-2048x8", 0, Step.decode(8, 2047)),
    ):
        layer = layer_of(model, step, number)
        assert layer.name == f"layer {number} of gemma-3-27b"
        assert problem_of(name) == layer.model_copy(update={"name": name})
    first, sixth = (
        problem_of(f"gemma-3-27b/{layer}prefill-2048/attention-of-prompts")
        for layer in ("", "layer-5/")
    )
    assert (first.window, sixth.window) == (1024, None)


def test_a_decode_step_ends_at_its_tokens():
    """So the last step of a model has a name: the context of Llama 2 ends at 4,096 tokens."""
    step = problem_of("llama-2-7b/decode-4096x8/attention-of-steps")
    prompt = problem_of("llama-2-7b/prefill-4096x8/attention-of-prompts")
    assert isinstance(step, AttentionProblem)
    assert (step.batch, step.q_len, step.kv_len, step.causal) == (8, 1, 4096, False)
    assert (prompt.batch, prompt.q_len, prompt.kv_len, prompt.causal) == (8, 4096, 4096, True)
    assert (step.dtype, problem_of("llama-3-8b/decode-1").problems[0].problem.dtype) == (
        Format.FP16,
        Format.BF16,
    )


def test_a_named_workload_takes_settings_as_a_file_does():
    loaded = load_workload("llama-3-8b/decode-4096/attention-of-steps", {"kv_len": "512"})
    assert loaded.problem.kv_len == 512
    assert loaded.folder == shipped_folder("workload")
    with pytest.raises(AccelsimError, match=r"^--set kv_lenn: unknown key, did you mean 'kv_len'"):
        load_workload("llama-3-8b/decode-4096/attention-of-steps", {"kv_lenn": "512"})
    with pytest.raises(AccelsimError, match=r"^llama-3-8b/decode-16/qkv: q_heads: missing"):
        load_workload("llama-3-8b/decode-16/qkv", {"kind": "attention"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "lama-3-8b/prefill-4096",
            "lama-3-8b/prefill-4096: unknown model 'lama-3-8b', did you mean 'llama-3-8b'?; known: "
            f"{', '.join(known_names('model'))}",
        ),
        (
            "llama-3-8b/prefil-4096",
            "llama-3-8b/prefil-4096: found 'prefil-4096', did you mean 'prefill-4096'? allowed: "
            + FORMS,
        ),
        ("llama-3-8b/", f"llama-3-8b/: found '', allowed: {FORMS}"),
        ("llama-3-8b/layer-2", f"llama-3-8b/layer-2: found 'layer-2', allowed: {FORMS}"),
        ("llama-3-8b/prefill-8/a/b", None),
        ("llama-3-8b/decode-0", None),
        ("llama-3-8b/prefill-8x0", None),
        (
            "opt-6.7b/prefill-16/qvk",
            "opt-6.7b/prefill-16/qvk: unknown operation 'qvk', did you mean 'qkv'?; known: "
            "norm-of-attention, qkv, kv_write, attention-of-prompts, output, norm-of-feed-forward, "
            "up, activation, down",
        ),
        (
            "opt-6.7b/layer-32/prefill-16",
            "opt-6.7b/layer-32/prefill-16: layer: found 32, allowed: 0 to 31, of the model",
        ),
        (
            "opt-6.7b/decode-2049",
            "opt-6.7b/decode-2049: layer: found 2049 new and cached tokens of a sequence, allowed: "
            "2048, the longest context of the model",
        ),
        (
            "mixtral-8x7b/prefill-4096x999999",
            "mixtral-8x7b/prefill-4096x999999: layer: found 4095995904 new tokens, allowed: up to "
            f"{MAX_TOKENS}",
        ),
        ("llama-3-8b/prefill-16.yaml", "llama-3-8b/prefill-16.yaml: no such file"),
        ("nothing/here", "nothing/here: no such file"),
    ],
)
def test_what_is_not_understood_is_told(name, message):
    with pytest.raises(AccelsimError) as error:
        load_workload(name)
    if message is None:
        assert str(error.value).endswith(f" allowed: {FORMS}")
    else:
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("llama-3-8b-prefill-4096-qkv", "llama-3-8b/prefill-4096/qkv"),
        ("llama-3-8b-prefill-4096-o", "llama-3-8b/prefill-4096/output"),
        ("opt-6.7b-prefill-2048-up", "opt-6.7b/prefill-2048/up"),
        (
            "qwen2-7b-prefill-4096-attention",
            "qwen2-7b/prefill-4096/attention-of-prompts",
        ),
        ("llama-2-7b-decode-4096-attention", "llama-2-7b/decode-4096/attention-of-steps"),
        ("smollm2-135m-decode-4096-layer", "smollm2-135m/decode-4096"),
        ("smollm2-135m-prefill-4096-whole-layer", "smollm2-135m/prefill-4096"),
        ("mixtral-8x7b-prefill-4096-experts", "mixtral-8x7b/prefill-4096"),
        ("opt-6.7b-prefill-4096-qkv", "opt-6.7b/prefill-4096"),  # longer than its context
    ],
)
def test_an_old_name_is_told_the_new_one(old, new):
    with pytest.raises(UnknownNameError) as error:
        load_workload(old)
    assert str(error.value) == (
        f"unknown workload '{old}', did you mean '{new}'? Layers of models are named: {FORMS}"
    )


@pytest.mark.parametrize("name", ["nope-prefill-4096-qkv", "llama-3-8b", "llama-3-8b-prefill"])
def test_other_unknown_names_are_told_that_layers_have_names(name):
    assert renamed(name) is None
    with pytest.raises(UnknownNameError) as error:
        load_workload(name)
    assert str(error.value).startswith(f"unknown workload '{name}'; known: attention-2048, ")
    assert str(error.value).endswith(f"; and layers of models: {FORMS}")


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "llama-3-8b" / "prefill-16"
    own.parent.mkdir()
    own.write_text("kind: gemm\nname: mine\nm: 1\nn: 2\nk: 3\n")
    assert problem_of("llama-3-8b/prefill-16").name == "mine"
    assert problem_of("llama-3-8b/prefill-17").name == "llama-3-8b/prefill-17"


def test_a_name_is_read_once():
    name = "smollm2-135m/prefill-16"
    assert named_problem(name) is named_problem(name)
    assert load_workload(name).problem is load_workload(name).problem


def test_a_report_has_the_name_and_the_operations_of_the_layer():
    report = simulate("edge-npu", "smollm2-135m/decode-16")
    assert report.workload == "smollm2-135m/decode-16"
    names = list(operations_of("smollm2-135m/decode-16"))
    assert [part.workload for part in report.parts] == names
    alone = simulate("edge-npu", "smollm2-135m/decode-16/gate-up")
    assert alone.cycles == report.parts[names.index("gate-up")].cycles


def test_names_are_compared_swept_and_drawn(tmp_path):
    out = tmp_path / "out"
    words = ["-q", "compare", "-m", "edge-npu", "-k", "flash,dense", "-o", str(out)]
    name = "smollm2-135m/prefill-32/attention-of-prompts"
    found = CliRunner().invoke(app, [*words, "-w", name])
    assert found.exit_code == 0, found.stderr
    assert set(pd.read_csv(out / "compare.csv")["workload"]) == {name}
    names = ["smollm2-135m/decode-32/qkv", "smollm2-135m/decode-32x8/qkv", "smollm2-135m/prefill-4"]
    file = tmp_path / "sweep.yaml"
    file.write_text(f"name: steps\nmachine: edge-npu\naxes:\n  workload: [{', '.join(names)}]\n")
    swept = sweep(file, tmp_path / "swept", workers=1)
    assert swept.num_by_status == {"ok": 3}
    assert [row["workload"] for row in swept.rows] == names
    assert swept.rows[0]["cycles"] == simulate("edge-npu", names[0]).cycles
    drawn = CliRunner().invoke(app, ["plot", str(tmp_path / "swept")])
    assert drawn.exit_code == 0, drawn.stderr


def test_a_sweep_of_an_unknown_operation_is_refused(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text("name: steps\nmachine: edge-npu\nworkloads: [smollm2-135m/decode-4/qvk]\n")
    with pytest.raises(UnknownNameError, match=r"unknown operation 'qvk', did you mean 'qkv'\?"):
        sweep(file, tmp_path / "out", workers=1)
