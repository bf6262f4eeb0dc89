"""Models over several devices: times, joules and memory of a plan, and what is refused."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.collectives.cost import collective_cost
from accelsim.errors import ConfigError, WorkloadError
from accelsim.hardware.sourced import Sourced
from accelsim.inference.cost import StepModel
from accelsim.inference.request import infer
from accelsim.inference.stored_weights import stages, weight_bytes
from accelsim.inference.system import System
from accelsim.loading import LoadedSystem, load_machine, load_system
from accelsim.models.expert_load import Counted
from accelsim.models.families.registry import read_architecture
from accelsim.models.model import Model
from accelsim.models.parallel import Parallel
from accelsim.models.plan import Plan
from accelsim.models.step import Step

SMALL = {
    "model_type": "qwen2",
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 256,
    "vocab_size": 512,
    "max_position_embeddings": 400,
}
SYSTEM = load_system("ascend-910b-x8")
MACHINE = load_machine(SYSTEM.machine)


@pytest.fixture(scope="module")
def small():
    return read_architecture(SMALL, "")


def model_of(small, **sizes):
    return StepModel(small, LoadedSystem(SYSTEM, MACHINE), plan=Plan(parallel=Parallel(**sizes)))


def test_with_one_device_a_plan_changes_nothing(small):
    one = StepModel(small, LoadedSystem(load_system("ascend-910b"), MACHINE))
    plan = model_of(small)
    for step in (Step.decode(2, 64), Step.prefill(1, 48)):
        before, after = one.cost(step), plan.cost(step)
        assert after == before
        assert after.energy_j == before.measured.energy_j
        assert weight_bytes(plan, step) == weight_bytes(one, step)


def test_an_inference_on_one_device_of_many_is_that_on_one(small):
    asked = {"prompt": 20, "output": 3, "batch": 2}
    alone = infer(small, "ascend-910b", **asked).to_dict()
    for plan in (None, "tp=1"):
        found = infer(small, System("ascend-910b-x8", plan=plan), **asked).to_dict()
        assert {name for name in found if found[name] != alone[name]} == {"system"}


@pytest.mark.parametrize("tensor", [2, 4])
def test_a_step_is_its_operations_and_its_collectives(small, tensor):
    model, step = model_of(small, tensor=tensor), Step.decode(2, 64)
    cost = model.cost(step)
    collectives = {each.name: each for each in cost.operations if each.report.bound_by == "links"}
    assert set(collectives) == {"sum of attention", "sum of feed-forward", "logits of all"}
    for each in collectives.values():
        alone = collective_cost(each.problem, SYSTEM)
        assert each.report.time_s == pytest.approx(alone.time_s + MACHINE.launch, rel=1e-12)
        assert each.report.recipe == alone.recipe
        assert each.report.energy_by_component_j["links"] == pytest.approx(alone.energy_j / tensor)
    assert cost.measured.time_s == pytest.approx(
        sum(each.time_s for each in cost.operations), rel=1e-12
    )
    assert cost.energy_j == tensor * cost.measured.energy_j


def test_devices_wait_for_each_other_before_a_collective(small):
    links = SYSTEM.links["HCCS"].model_copy(update={"meeting": Sourced(value=2e-6, source="test")})
    late = SYSTEM.model_copy(update={"links": {"HCCS": links}})
    times = [
        StepModel(small, LoadedSystem(system, MACHINE), plan=Plan(parallel=Parallel(2))).cost(
            Step.decode(2, 64)
        )
        for system in (SYSTEM, late)
    ]
    waits = times[1].measured.time_s - times[0].measured.time_s
    assert waits == pytest.approx((2 * 3 + 1) * 2e-6)


@pytest.mark.parametrize("tensor", [2, 4])
def test_devices_read_their_part_of_the_weights(small, tensor):
    step = Step.decode(1, 8)
    whole, part = model_of(small), model_of(small, tensor=tensor)
    outer, vectors = small.outer_bytes, whole.architecture.outer_bytes
    assert tensor * (weight_bytes(part, step) - outer) == weight_bytes(whole, step) - vectors
    assert part.cost(step).measured.hbm_read_bytes < whole.cost(step).measured.hbm_read_bytes


def test_memory_is_that_of_a_device(small):
    asked = {"prompt": 20, "output": 3, "batch": 2}
    one, two = (
        infer(small, System("ascend-910b-x8", plan=plan), **asked) for plan in (None, "tp=2")
    )
    assert 2 * two.memory.kv_bytes == one.memory.kv_bytes
    assert two.memory.weights_bytes < one.memory.weights_bytes
    assert two.memory.capacity_bytes == one.memory.capacity_bytes
    assert two.asked == {"plan": "tp=2"}
    assert two.energy_j == pytest.approx(
        two.generation.prefill.energy_j + sum(each.energy_j for each in two.generation.decode)
    )


def test_more_devices_than_the_system_has_are_refused(small):
    with pytest.raises(WorkloadError) as caught:
        infer(small, System("ascend-910b-x2", plan="tp=4"), prompt=4)
    assert str(caught.value) == (
        "plan: tp=4: found 4 devices, allowed: 2, which system ascend-910b-x2 has"
    )


def test_a_link_that_is_not_there_is_refused(small):
    with pytest.raises(ConfigError) as caught:
        infer(
            small,
            System("ascend-910b-x8", settings={"machine.links.NVLink.bandwidth.value": "1 GB/s"}),
            prompt=4,
        )
    assert str(caught.value) == (
        "--set machine.links.NVLink.bandwidth.value: found no links 'NVLink' in system "
        "ascend-910b-x8, allowed: HCCS"
    )


def test_a_slower_link_makes_a_slower_step(small):
    slow = {"machine.links.HCCS.bandwidth.value": "10 MB/s"}
    found, usual = (
        infer(small, System("ascend-910b-x8", "tp=2", settings), prompt=20)
        for settings in (slow, {})
    )
    assert found.time_s > usual.time_s


def test_the_command_takes_a_plan_and_shows_collectives_on_their_own_rows(small, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMALL))
    words = ["infer", "--model", path, "--system", "ascend-910b-x8", "--prompt", 16]
    run = CliRunner().invoke(app, [*map(str, words), "--plan", "tp=2", "--format", "json"])
    assert run.exit_code == 0, run.output
    times = json.loads(run.stdout)["prefill"]["time_by_operation_s"]
    assert times["sum of attention"] > 0
    run = CliRunner().invoke(app, [*map(str, words), "--plan", "tp=3"])
    assert run.exit_code == 2
    assert f"plan: tp=3: found 4 heads in model {tmp_path.name}" in " ".join(run.stderr.split())


def test_a_pipeline_takes_as_long_as_its_layers_and_the_way_between(small):
    step = Step.decode(2, 64)
    one, stages = model_of(small).cost(step), model_of(small, pipeline=3).cost(step)
    sends = [each for each in stages.operations if each.problem.kind == "send"]
    assert sum(each.time_s for each in sends) > 0
    assert stages.measured.time_s == pytest.approx(
        one.measured.time_s + sum(each.time_s for each in sends), rel=1e-12
    )
    static_j = stages.measured.energy_by_component_j["static"]
    assert stages.energy_j == pytest.approx(stages.measured.energy_j + 2 * static_j, rel=1e-12)


@pytest.mark.parametrize("step", [Step.prefill(4, 24), Step.decode(4, 64)])
def test_micro_batches_fill_the_stages(small, step):
    """Each is a step of a part of the sequences; all go through the slowest stage."""
    part = replace(step, sequences=(replace(step.sequences[0], count=1),))
    one = model_of(small, pipeline=3).cost(part)
    four = model_of(small, pipeline=3, microbatches=4).cost(step)
    assert four.operations == one.operations
    assert four.stage_s == one.stage_s
    assert sum(one.stage_s) == pytest.approx(one.time_s, rel=1e-12)
    slowest_s = max(one.stage_s)
    expected = 4 * slowest_s if step.is_decode else one.time_s + 3 * slowest_s
    assert four.time_s == pytest.approx(max(one.time_s, expected), rel=1e-12)
    assert four.bubble == pytest.approx(1 - 4 * sum(one.stage_s) / (3 * four.time_s))
    assert one.bubble == pytest.approx(2 / 3)
    moved_j = {name: 4 * joules for name, joules in one.energy_by_component_j.items()}
    static_w = one.energy_by_component_j["static"] / one.device_s
    device_s = one.device_s + four.time_s - one.time_s
    assert four.energy_by_component_j == pytest.approx(
        moved_j | {"static": static_w * device_s}, rel=1e-9
    )


def test_micro_batches_of_a_generation(small):
    asked = {"prompt": 20, "output": 3, "batch": 4}
    whole, parts = (
        infer(small, System("ascend-910b-x8", plan), **asked) for plan in ("pp=3", "pp=3,mb=2")
    )
    assert parts.asked == {"plan": "pp=3,mb=2"}
    assert parts.prefill.bubble < whole.prefill.bubble
    assert parts.prefill.time_by_operation_s["other micro-batches"] > 0
    assert sum(parts.prefill.time_by_operation_s.values()) == pytest.approx(parts.prefill.time_s)
    assert parts.memory.kv_bytes == whole.memory.kv_bytes
    assert parts.memory.activation_bytes < whole.memory.activation_bytes


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            "pp=2,mb=3",
            "plan: mb=3: found 4 equal sequences in a step, allowed: a number that mb divides",
        ),
        (
            "dp=2,pp=2,mb=4",
            "plan: dp=2,mb=4: found 4 equal sequences in a step, allowed: a number that dp x mb "
            "divides",
        ),
        (
            "tp=2,mb=2",
            "plan: mb=2: found pp=1, allowed: 1 or more micro-batches with stages, as in "
            "pp=4,mb=8, or 1",
        ),
        (
            "pp=2,mb=0",
            "plan: mb=0: found pp=2, allowed: 1 or more micro-batches with stages, as in "
            "pp=4,mb=8, or 1",
        ),
    ],
)
def test_micro_batches_that_cannot_be_are_refused(small, plan, message):
    with pytest.raises(WorkloadError) as caught:
        infer(small, System("ascend-910b-x8", plan), batch=4, prompt=16)
    assert str(caught.value) == message


def test_weights_of_all_stages_are_those_of_the_model(small):
    step = Step.decode(1, 8)
    parts = stages(model_of(small, pipeline=3), step)
    last_norms = 2 * small.norm.parameters(small.hidden) * 2
    assert sum(stored for _, stored in parts) - last_norms == weight_bytes(model_of(small), step)
    assert [len(share.layers) for share, _ in parts] == [1, 1, 1]
    assert sum(share.kv_bytes(9) for share, _ in parts) == small.kv_bytes(9)


def test_copies_take_the_energy_of_all_and_the_time_of_one(small):
    one = model_of(small).cost(Step.decode(2, 64))
    four = model_of(small, data=4).cost(Step.decode(8, 64))
    assert four.measured == one.measured
    assert four.energy_j == 4 * one.energy_j


def test_collectives_under_the_arithmetic_take_no_time_of_their_own(small):
    step = Step.decode(2, 64)
    apart = model_of(small, tensor=2).cost(step)
    under = model_of(small, tensor=2, overlaps=True).cost(step)
    links_s = sum(each.time_s for each in apart.operations if each.report.bound_by == "links")
    hidden_s = min(links_s, apart.measured.time_s - links_s)
    assert apart.time_s - under.time_s == pytest.approx(hidden_s)
    assert under.energy_j < apart.energy_j


EXPERTS = SMALL | {
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "decoder_sparse_step": 1,
    "norm_topk_prob": True,
    "mlp_only_layers": [],
}


@pytest.mark.parametrize("sizes", [{"tensor": 4, "expert": 4}, {"data": 4, "expert": 4}])
def test_devices_wait_for_the_one_with_most_rows_of_experts(sizes):
    model = model_of(read_architecture(EXPERTS, ""), **sizes)
    cost = model.cost(Step.decode(8, 32))
    uneven = [each for each in cost.operations if each.others or each.idle]
    assert uneven
    for each in uneven:
        assert each.report.time_s == max(report.time_s for report in (each.report, *each.others))
    most_j = cost.devices * cost.measured.energy_j
    assert most_j - cost.energy_j == pytest.approx(
        sum(sum(each.saved_j(cost.devices).values()) for each in uneven), rel=1e-6
    )
    assert 0 < cost.energy_j < most_j


@pytest.mark.parametrize("plan", ["ep=4", "tp=4,ep=4"])
def test_the_device_with_most_rows_of_experts_is_told(plan):
    """Eight experts on four devices; of 16 rows each device would have 4."""
    architecture = read_architecture(EXPERTS, "")
    counts = (8, 4, 2, 2, 0, 0, 0, 0)
    asked = {"prompt": 20, "output": 2, "batch": 8}
    model = Model(architecture, experts=Counted(counts))
    found = infer(model, System("ascend-910b-x8", plan), **asked)
    ranks = found.costs.parallel.ranks_of(counts)
    assert found.decode.expert_imbalance == max(map(sum, ranks)) / 4 > 1
    (product,) = (
        each for each in found.generation.middle.operations if each.name == "experts down"
    )
    times = [each.time_s for each in (product.report, *product.others)] + [0.0] * product.idle
    assert product.count == 3
    assert product.wait_s == pytest.approx(3 * (max(times) - sum(times) / 4))
    assert found.decode.expert_wait > product.wait_s / found.decode.time_s > 0


def test_even_experts_do_not_wait():
    model = Model(read_architecture(EXPERTS, ""), experts="balanced")
    asked = {"prompt": 20, "output": 2, "batch": 8}
    for plan in ("ep=4", "tp=2"):
        found = infer(model, System("ascend-910b-x8", plan), **asked)
        assert (found.decode.expert_imbalance, found.decode.expert_wait) == (1.0, 0.0)


def test_memory_of_a_plan_of_experts_is_that_of_a_device():
    model = read_architecture(EXPERTS, "")
    asked = {"prompt": 20, "output": 3, "batch": 8}
    one, four = (
        infer(model, System("ascend-910b-x8", plan=plan), **asked) for plan in (None, "ep=4")
    )
    assert 4 * four.memory.kv_bytes == one.memory.kv_bytes
    inner = 3 * 8 * 3 * 64 * 128 * 2
    assert one.memory.weights_bytes - four.memory.weights_bytes == inner * 3 // 4
    assert four.asked["plan"] == "dp=4,ep=4"
