"""Operations of a step against closed forms of the model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.models.families.registry import read_architecture
from accelsim.models.loading import load_architecture
from accelsim.models.operations.step import operations_of
from accelsim.models.step import Sequences, Step

SMALL = {
    "model_type": "qwen3",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 96,
    "vocab_size": 100,
}
LENGTHS = st.builds(
    lambda new, cached, count, sampled: Sequences(new, cached, count, min(sampled, new)),
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(1, 3),
    st.integers(0, 4),
)


def macs_of(operations):
    return sum(each.count * each.problem.macs for each in operations)


@given(st.lists(LENGTHS, min_size=1, max_size=4))
def test_macs_are_those_of_parameters_and_of_visible_pairs(sequences):
    model, step = read_architecture(SMALL, ""), Step(tuple(sequences))
    of_layers = sum(m.parameters for layer in model.layers for m in layer.matrices(64))
    pairs = sum(
        each.count * sum(each.cached + row + 1 for row in range(each.new)) for each in sequences
    )
    attention = 3 * 4 * 2 * 8 * pairs
    head = step.sampled_rows * 100 * 64
    assert macs_of(operations_of(model, step)) == step.tokens * of_layers + attention + head


@given(st.lists(LENGTHS, min_size=1, max_size=3), st.integers(1, 30))
def test_pairs_end_at_windows_and_at_chunks(sequences, size):
    step = Step(tuple(sequences))
    near = read_architecture({**SMALL, "model_type": "mistral", "sliding_window": size}, "")
    rows = [(each.cached + row, each.count) for each in sequences for row in range(each.new)]
    seen = sum(count * min(position + 1, size) for position, count in rows)
    assert _attention_macs(near, step) == 3 * 4 * 2 * 8 * seen
    chunked = {
        "model_type": "llama4_text",
        **{key: value for key, value in SMALL.items() if key != "model_type"},
        "attention_chunk_size": size,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 96,
        "interleave_moe_layer_step": 9,
        "use_qk_norm": False,
        "num_hidden_layers": 1,
    }
    seen = sum(count * (position % size + 1) for position, count in rows)
    assert _attention_macs(read_architecture(chunked, ""), step) == 4 * 2 * 8 * seen


def _attention_macs(model, step):
    return sum(
        each.count * each.problem.macs
        for each in operations_of(model, step)
        if each.problem.kind == "attention"
    )


def test_steps_and_prompts_have_attention_of_their_own():
    step = Step((Sequences(1, 500, 3), Sequences(32, 64, sampled=0)))
    names = [each.problem.name for each in operations_of(load_architecture("llama-3.1-8b"), step)]
    assert names == [
        "embedding",
        "norm of attention",
        "qkv",
        "rotary",
        "kv_write",
        "attention of steps",
        "attention of prompts",
        "output",
        "norm of feed-forward",
        "gate-up",
        "activation",
        "down",
        "last norm",
        "head",
        "sampling",
    ]


def test_a_chunk_within_a_prompt_has_no_logits():
    step = Step((Sequences(32, 64, sampled=0),))
    names = {each.problem.name for each in operations_of(load_architecture("qwen3-8b"), step)}
    assert "norm of heads" in names
    assert not {"last norm", "head", "sampling"} & names


def test_weights_are_read_once_in_a_step():
    model = load_architecture("llama-3.1-8b")
    operations = operations_of(model, Step.decode(4, 1000))
    read = sum(
        each.count * each.problem.n * each.problem.k * 2
        for each in operations
        if each.problem.kind == "gemm"
    )
    embedding = model.vocabulary * model.hidden
    norms = (2 * 32 + 1) * model.hidden
    assert read == 2 * (model.parameters - embedding - norms)


def test_equal_neighbours_are_one_entry():
    step = Step.of([Sequences(1, 8), Sequences(1, 8), Sequences(1, 9), Sequences(4, 8, 2)])
    assert step.sequences == (Sequences(1, 8, 2), Sequences(1, 9), Sequences(4, 8, 2))
    assert step.tokens == 11
    assert step.sampled_rows == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"new": 0}, "step: new: found 0, allowed: 1 or more"),
        ({"new": 1, "cached": -1}, "step: cached: found -1, allowed: 0 or more"),
        ({"new": 1, "count": 0}, "step: count: found 0, allowed: 1 or more"),
        ({"new": 1, "sampled": -1}, "step: sampled: found -1, allowed: 0 or more"),
        (
            {"new": 2, "sampled": 3},
            "step: sampled: found 3 with 2 new tokens, allowed: at most as many",
        ),
    ],
)
def test_sequences_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(WorkloadError) as caught:
        Sequences(**arguments)
    assert str(caught.value) == message


def test_a_step_has_sequences():
    with pytest.raises(WorkloadError, match="found no sequences, allowed: one or more"):
        Step(())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("opt-6.7b", "norms that take off the mean"),
        ("deepseek-v2-lite", "latent attention"),
        ("mixtral-8x7b", "experts"),
        ("deepseek-v3", "weights in fp8_e4m3 with scales of blocks"),
        ("gpt-oss-20b", "weights in mxfp4"),
        ("gemma-2-9b", "4 norms in a layer"),
    ],
)
def test_parts_whose_operations_are_not_known_are_named(name, what):
    model = load_architecture(name)
    with pytest.raises(WorkloadError) as caught:
        operations_of(model, Step.decode(1, 8))
    assert str(caught.value) == (
        f"model {model.family}: steps of models with {what} are not known yet"
    )


def test_steps_differ_only_in_attention():
    """So a generation simulates all else once: the table of rotary has all positions."""
    model = read_architecture({**SMALL, "max_position_embeddings": 512}, "")
    first, second = (
        [each.problem for each in operations_of(model, Step.decode(2, cached))]
        for cached in (40, 41)
    )
    differ = [a.name for a, b in zip(first, second, strict=True) if a != b]
    assert differ == ["attention of steps"]
    assert [each.table_rows for each in first if each.name == "rotary"] == [512]


def test_without_a_longest_context_the_table_has_the_positions_of_the_step():
    (rotary,) = (
        each.problem
        for each in operations_of(read_architecture(SMALL, ""), Step.decode(2, 40))
        if each.problem.name == "rotary"
    )
    assert rotary.table_rows == 41
