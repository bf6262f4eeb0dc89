"""Plans over devices: shares of a model, sums over devices, and what is refused."""

from dataclasses import replace

import pytest

from accelsim.errors import WorkloadError
from accelsim.models.attention import HeadNorm
from accelsim.models.families.registry import read_architecture
from accelsim.models.loading import load_architecture
from accelsim.models.operations.step import operations_of
from accelsim.models.parallel import (
    ONE_DEVICE,
    Parallel,
    parse_parallel,
    share_of,
    stages_of,
)
from accelsim.models.plan import Plan
from accelsim.models.step import Sequences, Step
from accelsim.workload.collective import Collective

STEPS = (
    Step.prefill(2, 48),
    Step.decode(5, 300),
    Step((Sequences(1, 99, 3), Sequences(64, 128))),
)


def operations(model, step, tensor):
    return operations_of(model, step, Plan(parallel=Parallel(tensor)))


def problems(found):
    return [
        (each.problem, each.count) for each in found if not isinstance(each.problem, Collective)
    ]


def collectives(found):
    return [(each.problem, each.count) for each in found if isinstance(each.problem, Collective)]


def macs_of(found, *kinds):
    return sum(count * each.macs for each, count in problems(found) if each.kind in kinds)


def weights_of(found):
    return sum(
        count * each.tensor_bytes["b"]
        for each, count in problems(found)
        if each.kind in ("gemm", "grouped_gemm")
    )


@pytest.mark.parametrize("name", ["llama-3-8b", "qwen3-30b-a3b", "deepseek-v2-lite"])
def test_one_device_has_the_operations_that_it_had(name):
    model = load_architecture(name)
    assert share_of(model, ONE_DEVICE) is model
    for step in STEPS:
        assert operations(model, step, 1) == operations_of(model, step)
        assert not collectives(operations(model, step, 1))


@pytest.mark.parametrize("tensor", [2, 4, 8])
@pytest.mark.parametrize("name", ["llama-3-8b", "llama-3-70b", "qwen3-8b"])
def test_each_device_has_its_part_of_weights_and_macs(name, tensor):
    """Heads of K and V are as many as devices or more, so nothing of a product is done twice."""
    model = load_architecture(name)
    for step in STEPS:
        whole, part = operations(model, step, 1), operations(model, step, tensor)
        assert tensor * weights_of(part) == weights_of(whole)
        for kind in ("gemm", "attention"):
            assert tensor * macs_of(part, kind) == macs_of(whole, kind)


@pytest.mark.parametrize("tensor", [8, 16, 32])
def test_heads_of_keys_beyond_their_number_are_on_several_devices(tensor):
    model = load_architecture("qwen3-30b-a3b")
    (attention,) = {layer.attention for layer in model.layers}
    copies = tensor // attention.kv_heads
    share = share_of(model, Parallel(tensor))
    assert tensor * share.kv_bytes(100) == copies * model.kv_bytes(100)
    step = Step.decode(3, 200)
    whole, part = operations(model, step, 1), operations(model, step, tensor)
    again = 2 * (copies - 1) * attention.kv_heads * attention.head_dim * model.hidden
    router = (tensor - 1) * model.hidden * 128
    layers = len(model.layers)
    assert tensor * macs_of(part, "gemm") - macs_of(whole, "gemm") == 3 * layers * (again + router)
    assert tensor * macs_of(part, "attention") == macs_of(whole, "attention")


def test_latents_are_on_all_devices():
    model = load_architecture("deepseek-v2-lite")
    share = share_of(model, Parallel(4))
    assert share.kv_bytes(100) == model.kv_bytes(100)
    step = Step.decode(3, 200)
    whole, part = operations(model, step, 1), operations(model, step, 4)
    attention = model.layers[0].attention
    latents = model.hidden * (attention.latent_dim + attention.rotary_dim) * len(model.layers)
    routers = sum(hasattr(layer.feed_forward, "experts") for layer in model.layers)
    routers *= model.hidden * model.layers[-1].feed_forward.experts
    twice = 3 * (4 - 1) * (latents + routers)
    assert 4 * macs_of(part, "gemm") - macs_of(whole, "gemm") == twice
    assert 4 * macs_of(part, "grouped_gemm", "attention") == macs_of(
        whole, "grouped_gemm", "attention"
    )


@pytest.mark.parametrize("tensor", [2, 8])
def test_rows_are_added_up_twice_a_layer_and_logits_are_gathered(tensor):
    model = load_architecture("llama-3-8b")
    step = Step((Sequences(1, 99, 3), Sequences(64, 128)))
    found = collectives(operations(model, step, tensor))
    rows_bytes = step.tokens * model.hidden * 2
    logits_bytes = step.sampled_rows * model.vocabulary * 2
    assert found == [
        (Collective("all_reduce", "sum of attention", rows_bytes, tensor), 32),
        (Collective("all_reduce", "sum of feed-forward", rows_bytes, tensor), 32),
        (Collective("all_gather", "logits of all", logits_bytes, tensor), 1),
    ]


def test_vector_work_on_whole_rows_is_done_by_all():
    model, step = load_architecture("llama-3-8b"), Step.decode(4, 100)
    whole, part = (
        {each.name: each for each, _ in problems(operations(model, step, count))}
        for count in (1, 4)
    )
    assert part["norm of attention"] == whole["norm of attention"]
    assert part["sampling"] == whole["sampling"]
    assert 4 * part["activation"].cols == whole["activation"].cols
    assert 4 * part["rotary"].cols == whole["rotary"].cols


@pytest.mark.parametrize(
    ("text", "plan"), [("tp=2", Parallel(2)), (" tp = 8 ", Parallel(8)), ("tp=1", ONE_DEVICE)]
)
def test_plans_are_read_as_they_are_written(text, plan):
    assert parse_parallel(text) == plan
    assert parse_parallel(str(plan)) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tq=2", "plan: found 'tq' in 'tq=2', allowed: tp, "),
        ("tp=2,tp=4", "plan: found tp twice in 'tp=2,tp=4', allowed: once"),
        ("tp", "plan: tp: found '', allowed: a number, as in tp=2"),
        ("tp=-1", "plan: tp: found '-1', allowed: a number, as in tp=2"),
        ("tp=0", "plan: tp: found 0, allowed: 1 or more"),
    ],
)
def test_texts_that_are_no_plan_are_refused(text, message):
    with pytest.raises(WorkloadError) as caught:
        parse_parallel(text)
    assert str(caught.value).startswith(message)


SMALL = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 12,
    "num_key_value_heads": 6,
    "head_dim": 32,
    "intermediate_size": 250,
    "vocab_size": 509,
}


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (5, "plan: tp=5: found 12 heads in model qwen2, allowed: a number of devices that divides"),
        (4, "plan: tp=4: found 6 KV heads in model qwen2, allowed: a number of devices that divid"),
        (
            3,
            "plan: tp=3: found 250 rows within the feed-forward part in model qwen2, allowed: a",
        ),
    ],
)
def test_a_plan_that_does_not_divide_the_model_is_refused(tensor, message):
    model = read_architecture(SMALL, "")
    with pytest.raises(WorkloadError) as caught:
        operations(model, Step.decode(1, 4), tensor)
    assert str(caught.value).startswith(message)


def test_a_vocabulary_that_is_not_divided_is_padded():
    model = read_architecture(SMALL, "")
    found = operations(model, Step.decode(1, 4), 2)
    (head,) = (each for each, _ in problems(found) if each.name == "head")
    (logits,) = (each for each, _ in collectives(found) if each.kind == "all_gather")
    assert (head.n, logits.size_bytes) == (255, 2 * 510)


def test_norms_of_whole_rows_of_heads_are_refused():
    model = load_architecture("llama-3-8b")
    layer = model.layers[0]
    attention = replace(layer.attention, head_norm=HeadNorm.ROW)
    model = replace(model, layers=(replace(layer, attention=attention),))
    with pytest.raises(WorkloadError, match="norms of whole rows of Q and K in model llama-3-8b"):
        share_of(model, Parallel(2))


def on(model, step, text):
    return operations_of(model, step, Plan(parallel=parse_parallel(text)))


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("tp=2,ep=4", Parallel(2, data=2, expert=4)),
        ("tp=4,ep=2", Parallel(4, expert=2)),
        ("ep=8", Parallel(data=8, expert=8)),
        ("tp=2,pp=4,dp=3", Parallel(2, 4, 3)),
        ("tp=4,sp=4,overlap", Parallel(4, sequence=4, overlaps=True)),
    ],
)
def test_plans_of_several_ways_are_read_as_they_are_written(text, plan):
    assert parse_parallel(text) == plan
    assert parse_parallel(str(plan)) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tp=2,dp=2,ep=2",
            "plan: ep=2: found 4 devices that could share experts (tp=2, dp=2), allowed: 1, 4, or "
            "without dp a divisor",
        ),
        (
            "tp=4,ep=3",
            "plan: ep=3: found 4 devices that could share experts (tp=4, dp=1), allowed: 1, 4, or "
            "without dp a divisor",
        ),
        ("tp=4,sp=2", "plan: sp=2: found tp=4, allowed: 1 or as tp"),
    ],
)
def test_ways_that_do_not_fit_each_other_are_refused(text, message):
    with pytest.raises(WorkloadError) as caught:
        parse_parallel(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "step", "text", "message"),
    [
        (
            "llama-3-8b",
            Step.decode(3, 8),
            "dp=2",
            "plan: dp=2: found 3 equal sequences in a step, allowed: a number that dp divides",
        ),
        (
            "qwen3-30b-a3b",
            Step.decode(3, 8),
            "ep=3",
            "plan: ep=3: found 128 experts in model qwen3-30b-a3b, allowed: a number of devices "
            "that divides them",
        ),
        (
            "llama-3-8b",
            Step.decode(1, 8),
            "pp=33",
            "plan: pp=33: found 32 layers in model llama-3-8b, allowed: at most as many stages",
        ),
    ],
)
def test_plans_that_do_not_divide_are_refused(name, step, text, message):
    with pytest.raises(WorkloadError) as caught:
        on(load_architecture(name), step, text)
    assert str(caught.value) == message


def test_copies_have_each_their_part_of_the_sequences():
    model = load_architecture("llama-3-8b")
    half = Step((Sequences(1, 99, 2), Sequences(64, 128)))
    whole = Step((Sequences(1, 99, 4), Sequences(64, 128, 2)))
    assert on(model, whole, "dp=2") == operations_of(model, half)
    assert on(model, whole, "tp=4,dp=2") == on(model, half, "tp=4")


def of_all(operation):
    """Return the problems of all devices of a group, those that differ and those that do not."""
    return (operation.problem, *operation.others)


@pytest.mark.parametrize(("text", "groups"), [("tp=4,ep=4", 1), ("tp=4,ep=2", 2), ("tp=2,ep=4", 1)])
@pytest.mark.parametrize("batch", [2, 512])
def test_experts_of_all_devices_have_the_rows_and_the_macs_of_one(text, groups, batch):
    """groups: devices that share the inner rows of an expert, each with its part."""
    model, parallel = load_architecture("qwen3-30b-a3b"), parse_parallel(text)
    step = Step.decode(batch, 64)
    whole, found = on(model, step, "tp=1"), on(model, step, text)
    for name in ("experts gate-up", "experts down"):
        macs = [
            each.count * problem.macs
            for each in found
            if each.problem.name == name
            for problem in of_all(each)
        ]
        one = sum(each.count * each.problem.macs for each in whole if each.problem.name == name)
        assert groups * sum(macs) == one
        for each in (each for each in found if each.problem.name == name):
            group = len(of_all(each)) + each.idle
            assert group in (1, parallel.expert)
            assert {len(problem.rows) for problem in of_all(each)} == {128 // parallel.expert}
            if group == parallel.expert:
                assert sum(sum(problem.rows) for problem in of_all(each)) == batch * 8


def test_rows_travel_to_experts_and_back_where_devices_have_other_tokens():
    model, step = load_architecture("qwen3-30b-a3b"), Step.decode(64, 64)
    ways = {each.name: each for each, _ in collectives(on(model, step, "tp=2,ep=4"))}
    sent_bytes = 64 // 2 // 2 * 8 * 2048 * 2
    assert ways["rows to experts"] == Collective("all_to_all", "rows to experts", sent_bytes, 4)
    assert ways["rows from experts"].size_bytes == sent_bytes
    ways = {each.name for each, _ in collectives(on(model, step, "tp=4,ep=4"))}
    assert ways == {"sum of attention", "sum of feed-forward", "logits of all"}


def test_the_device_with_most_rows_is_first_and_devices_differ():
    model = load_architecture("qwen3-30b-a3b")
    found = on(model, Step.decode(16, 64), "tp=8,ep=4")
    uneven = [each for each in found if each.problem.name == "experts down" and each.others]
    assert uneven
    for each in uneven:
        rows = [sum(problem.rows) for problem in of_all(each)]
        assert rows == sorted(rows, reverse=True)
        assert rows[0] > rows[-1]


def test_one_device_with_all_experts_has_the_load_as_it_was():
    assert Parallel(4).ranks_of((5, 3, 0)) == ((5, 3, 0),)
    ranks = Parallel(4, expert=4).ranks_of(tuple(range(64, 0, -1)))
    assert sorted(sum(ranks, ())) == list(range(1, 65))
    assert all(own == tuple(sorted(own, reverse=True)) for own in ranks)


def test_stages_have_all_layers_and_send_rows_to_the_next_one():
    model, step = load_architecture("llama-3-8b"), Step.decode(4, 100)
    found, whole = on(model, step, "tp=2,pp=3"), on(model, step, "tp=2")
    sends = [each for each in found if each.problem.kind == "send"]
    (way,) = sends
    assert [each for each in found if each not in sends] == list(whole)
    assert (way.count, way.problem.stride) == (2, 2)
    assert way.problem.size_bytes == 4 * 4096 * 2
    stages = stages_of(model, Parallel(pipeline=3))
    assert [len(stage.layers) for stage in stages] == [11, 11, 10]
    assert sum((stage.layers for stage in stages), ()) == model.layers


def test_rows_that_are_shared_travel_as_often_and_norms_have_their_part():
    model, step = load_architecture("llama-3-8b"), Step.prefill(1, 100)
    plain, shared = on(model, step, "tp=4"), on(model, step, "tp=4,sp=4")
    norm = {each.name: each for each, _ in problems(shared)}["norm of feed-forward"]
    assert norm.rows == 25
    kinds = {each.name: (each.kind, count) for each, count in collectives(shared)}
    assert kinds["sum of attention"] == ("reduce_scatter", 32)
    assert kinds["rows of attention"] == ("all_gather", 32)
    assert kinds["rows of the head"] == ("all_gather", 1)
    for kind in ("gemm", "attention"):
        assert macs_of(plain, kind) == macs_of(shared, kind)
