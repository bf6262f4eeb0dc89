"""Operations of latent attention in both forms against closed forms, and their mathematics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.inference.cost import StepModel
from accelsim.inference.memory import memory_use
from accelsim.inference.request import infer
from accelsim.inference.stored_weights import weight_bytes
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.loading import LoadedSystem, load_machine, load_system
from accelsim.models.attention import LatentAttention
from accelsim.models.loading import load_architecture
from accelsim.models.operations import latent_attention
from accelsim.models.operations.latent_attention import is_absorbed
from accelsim.models.operations.parts import Setting
from accelsim.models.operations.step import operations_of
from accelsim.models.step import Sequences, Step
from accelsim.numerics.formats import Format
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.recorded import run

LITE = load_architecture("deepseek-v2-lite").layers[0].attention
V3 = load_architecture("deepseek-v3").layers[0].attention
LENGTHS = st.builds(
    lambda new, cached, count: Sequences(new, cached, count, 1),
    st.integers(1, 40),
    st.integers(0, 300),
    st.integers(1, 3),
)


def dense_model(attention=LITE, layers=1, **changes):
    """The first layer of DeepSeek-V2-Lite, which has no experts, as a model."""
    model = load_architecture("deepseek-v2-lite")
    layer = replace(model.layers[0], attention=replace(attention, **changes))
    return replace(model, layers=(layer,) * layers)


def problems_of(model, step):
    return {each.problem.name: each.problem for each in operations_of(model, step)}


@given(st.lists(LENGTHS, min_size=1, max_size=4), st.sampled_from([LITE, V3]))
def test_macs_are_those_of_parameters_of_pairs_and_of_cached_tokens(sequences, attention):
    model, step = dense_model(attention), Step(tuple(sequences))
    expected = sum(m.parameters for m in model.layers[0].matrices(model.hidden)) * step.tokens
    expected += step.sampled_rows * model.vocabulary * model.hidden
    for each in sequences:
        pairs = each.count * sum(each.cached + row + 1 for row in range(each.new))
        if is_absorbed(attention, each):
            expected += attention.heads * (2 * 512 + 64) * pairs
        else:
            expected += attention.heads * (128 + 64 + 128) * pairs
            expected += each.count * each.cached * attention.heads * 512 * (128 + 128)
    found = sum(each.count * each.problem.macs for each in operations_of(model, step))
    assert found == expected


@given(LENGTHS)
def test_the_form_is_the_one_of_fewer_macs(sequences):
    new, cached = sequences.new, sequences.cached
    pairs = sum(cached + row + 1 for row in range(new))
    up = 512 * (128 + 128)
    absorbed, computed = pairs * 1088 + new * up, pairs * 320 + (new + cached) * up
    assert is_absorbed(V3, sequences) == (absorbed < computed)


@pytest.mark.parametrize("cached", [1, 100, 4096, 128_000])
def test_steps_are_absorbed_prompts_are_computed_and_chunks_are_either(cached):
    assert is_absorbed(V3, Sequences(1, cached))
    assert not is_absorbed(V3, Sequences(cached + 1))
    assert is_absorbed(V3, Sequences(64, 64 + cached))
    assert not is_absorbed(V3, Sequences(512, cached, sampled=0))


def test_a_step_reads_latents_once_and_nothing_of_each_head():
    problem = problems_of(dense_model(), Step.decode(4, 999))["attention of steps"]
    assert problem.widths == (576, 512)
    assert problem.tensor_bytes["k"] == 4 * 1000 * 576 * 2
    assert "v" not in problem.tensor_bytes
    assert (problem.q_heads, problem.kv_heads) == (16, 1)


def test_a_step_of_the_absorbed_form_has_products_of_each_head():
    names = list(problems_of(dense_model(), Step.decode(4, 999)))
    assert names[2:11] == [
        "q",
        "latent",
        "norm of latent",
        "rotary",
        "kv_write",
        "q to latent",
        "attention of steps",
        "latent to values",
        "output",
    ]
    problems = problems_of(dense_model(V3), Step.decode(4, 999))
    assert problems["latents"].n == 1536 + 512 + 64
    assert problems["norm of q latent"].cols == 1536
    assert problems["q to latent"].rows == (4,) * 128
    weights = [problems[name].tensor_bytes["b"] for name in ("q to latent", "latent to values")]
    assert weights == [128 * 128 * 512 * 2, 128 * 512 * 128 * 2]
    writing = problems["kv_write"]
    assert writing.tensor_bytes == {"x": 4 * 576 * 2, "keys": 4 * 576 * 2}


def test_a_prompt_projects_latents_up_and_a_chunk_those_of_its_cache_too():
    problems = problems_of(dense_model(), Step((Sequences(600, 1000, 2, sampled=0),)))
    assert problems["cached rows"].rows == 2 * 1000
    assert problems["kv up"].m == problems["keys"].rows == 2 * 1600
    assert problems["keys"].output_shapes == {"result": (3200, 16 * 192)}
    attention = problems["attention of prompts"]
    assert (attention.q_heads, attention.kv_heads) == (16, 16)
    assert attention.widths == (192, 128)
    assert "cached rows" not in problems_of(dense_model(), Step.prefill(1, 100))


def test_a_step_may_have_both_forms():
    names = set(problems_of(dense_model(), Step((Sequences(1, 500, 3), Sequences(128)))))
    assert {"q to latent", "attention of steps", "kv up", "attention of prompts"} <= names


def test_weights_of_either_form_are_those_of_the_file():
    model, system = dense_model(), load_system("ascend-910b")
    costs = StepModel(model, LoadedSystem(system, load_machine(system.machine)))
    for step in (Step.decode(2, 40), Step.prefill(2, 40)):
        assert weight_bytes(costs, step) == model.weight_bytes


def test_the_cache_keeps_latents_only():
    model = dense_model(layers=3)
    use = memory_use(model, 10**12, 0, lambda count: (Step.decode(count, 8),), 5, 100)
    assert use.kv_bytes == 5 * 100 * 3 * 576 * 2


def test_layers_of_latent_attention_are_simulated():
    found = infer(dense_model(), "ascend-910b", batch=2, prompt=64, output=3)
    recipes = found.to_dict()["decode"]["recipes"]
    assert recipes["attention of steps"].startswith("flash")
    assert found.decode.time_by_operation_s["q to latent"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"indexer": load_architecture("deepseek-v3.2").layers[0].attention.indexer},
        {"reads_selection": True},
    ],
)
def test_an_indexer_is_refused_by_name(changes):
    with pytest.raises(WorkloadError) as caught:
        operations_of(dense_model(**changes), Step.decode(1, 8))
    assert str(caught.value) == (
        "model deepseek-v2-lite: steps of models with an indexer of keys are not known yet"
    )


SMALL = LatentAttention(
    heads=3, query_rank=None, latent_dim=16, plain_dim=8, rotary_dim=4, value_dim=6
)


@settings(max_examples=20)
@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(0, 20))
def test_both_forms_by_kernels_are_latent_attention_in_float64(seed, new, cached):
    """DeepSeek-V2, 2024, section 2.1.2, from queries and latents to the values of each head."""
    rng, tokens, own = np.random.default_rng(seed), new + cached, SMALL
    query = rng.standard_normal((own.heads, new, own.plain_dim + own.rotary_dim))
    latents = rng.standard_normal((tokens, own.latent_dim + own.rotary_dim))
    up_keys = rng.standard_normal((own.heads, own.latent_dim, own.plain_dim)) / 4
    up_values = rng.standard_normal((own.heads, own.latent_dim, own.value_dim)) / 4
    query, latents, up_keys, up_values = (
        each.astype(np.float32).astype(float) for each in (query, latents, up_keys, up_values)
    )
    expected = _by_definition(query, latents, up_keys, up_values)
    step = Step((Sequences(new, cached),))
    for form in (_computed, _absorbed):
        output = form(step, query, latents, up_keys, up_values)
        np.testing.assert_allclose(output, expected, rtol=0, atol=2e-5)


def _by_definition(query, latents, up_keys, up_values):
    new, tokens, latent = query.shape[1], len(latents), SMALL.latent_dim
    outputs = []
    for q, to_keys, to_values in zip(query, up_keys, up_values, strict=True):
        keys = np.hstack([latents[:, :latent] @ to_keys, latents[:, latent:]])
        scores = q @ keys.T / np.sqrt(keys.shape[1])
        scores[np.arange(tokens) > np.arange(new)[:, None] + tokens - new] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        outputs.append(weights @ (latents[:, :latent] @ to_values))
    return np.stack(outputs)


def _forms(step):
    """The problems of attention in both forms, in FP32."""
    at = Setting(dense_model(SMALL), step)
    found = {}
    for name in ("_computed", "_absorbed"):
        problems = getattr(latent_attention, name)(SMALL, at, list(step.sequences))
        (found[name],) = [each for each in problems if each.kind == "attention"]
    return {name: each.model_copy(update={"dtype": Format.FP32}) for name, each in found.items()}


def _attention(problem, q, k, v):
    arrays = [np.ascontiguousarray(each, np.float32) for each in (q, k, v)]
    tensors = AttentionTensors(*arrays)
    _, output = run("flash", problem, tensors, precision="fp32", tile_q=4, tile_k=8, splits=2)
    exact = softmax_attention(problem, tensors)
    np.testing.assert_allclose(output, exact, rtol=0, atol=2e-5)
    return output


def _computed(step, query, latents, up_keys, up_values):
    problem, latent = _forms(step)["_computed"], latents[:, : SMALL.latent_dim]
    shared = latents[:, SMALL.latent_dim :]
    keys = np.stack([np.hstack([latent @ up, shared]) for up in up_keys])
    values = np.stack([latent @ up for up in up_values])
    return _attention(problem, query, keys, values).reshape(SMALL.heads, query.shape[1], -1)


def _absorbed(step, query, latents, up_keys, up_values):
    problem, plain = _forms(step)["_absorbed"], SMALL.plain_dim
    through = np.einsum("hrp,hlp->hrl", query[..., :plain], up_keys)
    q = np.concatenate([through, query[..., plain:]], axis=2)
    # Scores of the problem are over the root of the width of a latent row, not of a head.
    q *= np.sqrt(problem.head_dim / (plain + SMALL.rotary_dim))
    output = _attention(problem, q, latents[None], latents[None, :, : SMALL.latent_dim])
    output = output.reshape(SMALL.heads, query.shape[1], -1)
    return np.einsum("hrl,hlv->hrv", output, up_values)
