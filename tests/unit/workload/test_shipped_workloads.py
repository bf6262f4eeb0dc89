"""Every workload that ships: valid, named after its file, true to its model's public figures."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from accelsim.workload.problem import AttentionProblem, GemmProblem, LayerProblem, Workload
from accelsim.workload.tensors import load_tensors
from tests.routing import expert_rows

FOLDER = Path(__file__).parents[3] / "workloads"
FILES = sorted(FOLDER.glob("*.yaml"))
WORKLOAD = TypeAdapter(Workload)
MODELS = {
    # Parameters of one decoder layer's matrices; figures of the models' cards.
    "llama-2-7b": 4 * 4096 * 4096 + 3 * 4096 * 11008,
    "llama-3-8b": 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336,
    "opt-6.7b": 12 * 4096 * 4096,
    "qwen2-7b": 2 * 3584 * 3584 + 2 * 3584 * 512 + 3 * 3584 * 18944,
    "smollm2-135m": 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536,
}
TOKENS = dict.fromkeys(MODELS, 4096) | {"opt-6.7b": 2048}


def read(name):
    return WORKLOAD.validate_python(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_valid_and_named_after_its_workload(path):
    assert read(path.stem).name == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_what_it_is(path):
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("model", MODELS)
def test_a_layer_multiplies_each_parameter_once_per_token(model):
    tokens = TOKENS[model]
    for phase, rows in (("prefill", tokens), ("decode", 1)):
        layer = read(f"{model}-{phase}-{tokens}-layer")
        assert isinstance(layer, LayerProblem)
        parts = [part for part in layer.problems if isinstance(part.problem, GemmProblem)]
        assert sum(part.count * part.problem.macs for part in parts) == rows * MODELS[model]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_parts_of_a_layer_equal_the_files_of_their_own(model, phase):
    base = f"{model}-{phase}-{TOKENS[model]}"
    for part in (each.problem for each in read(f"{base}-layer").problems):
        if phase == "decode" and isinstance(part, GemmProblem):
            continue
        alone = read(f"{base}-{part.name}")
        assert part.model_dump(exclude={"name"}) == alone.model_dump(exclude={"name"})


@pytest.mark.parametrize("model", MODELS)
def test_the_linears_fit_the_attention(model):
    base = f"{model}-prefill-{TOKENS[model]}"
    attention, qkv, o = (read(f"{base}-{name}") for name in ("attention", "qkv", "o"))
    assert isinstance(attention, AttentionProblem)
    assert qkv.n == (attention.q_heads + 2 * attention.kv_heads) * attention.head_dim
    assert o.k == attention.q_heads * attention.head_dim
    assert qkv.m == attention.q_len


@pytest.mark.parametrize(("phase", "tokens"), [("prefill", 4096), ("decode", 4)])
def test_rows_of_experts_are_those_of_a_seeded_router(phase, tokens):
    """Figures of Mixtral-8x7B's card: hidden 4096, FFN 14336, 8 experts, 2 for each token."""
    layer = read(f"mixtral-8x7b-{phase}-{tokens}-experts")
    scores, router, gate_up, activation, down = (part.problem for part in layer.problems)
    rows = expert_rows(tokens, experts=8, top_k=2, seed=0)
    assert list(gate_up.rows) == list(down.rows) == rows
    assert (scores.m, scores.n, scores.k) == (tokens, 8, 4096)
    assert (router.rows, router.cols, router.top_k) == (tokens, 8, 2)
    assert (gate_up.n, gate_up.k, down.n, down.k) == (2 * 14336, 4096, 4096, 14336)
    assert (activation.rows, activation.cols) == (2 * tokens, 14336)


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if "tensors:" in path.read_text()],
    ids=lambda path: path.stem,
)
def test_shipped_tensors_load_and_are_ordinary_numbers(path):
    tensors = load_tensors(read(path.stem), FOLDER)
    for values in (each for each in tensors if isinstance(each, np.ndarray)):
        assert np.isfinite(values).all()
        assert values.std() > 0


def test_the_notice_names_the_files_by_hash():
    notice = (FOLDER / "data" / "NOTICE").read_text()
    for path in (FOLDER / "data").glob("*.npz"):
        assert f"{path.name}" in notice
        assert hashlib.sha256(path.read_bytes()).hexdigest() in notice


def test_the_sink_head_has_the_scores_its_notice_promises():
    q, k, _ = load_tensors(read("smollm2-real-sink"), FOLDER)[:3]
    scores = np.tril(q @ k[0].T)
    assert np.abs(scores).max() == pytest.approx(610, abs=1)
