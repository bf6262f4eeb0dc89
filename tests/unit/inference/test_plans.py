"""Models over several devices: times, joules and memory of a plan, and what is refused."""

import json

import pytest
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.collectives.cost import collective_cost
from accelsim.errors import ConfigError, WorkloadError
from accelsim.inference.cost import StepModel
from accelsim.inference.request import infer
from accelsim.loading import load_machine, load_system
from accelsim.models.families.registry import read_architecture
from accelsim.models.parallel import Parallel
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
    return StepModel(small, SYSTEM, MACHINE, parallel=Parallel(**sizes))


def test_with_one_device_a_plan_changes_nothing(small):
    one = StepModel(small, load_system("ascend-910b"), MACHINE)
    plan = model_of(small)
    for step in (Step.decode(2, 64), Step.prefill(1, 48)):
        before, after = one.cost(step), plan.cost(step)
        assert after == before
        assert after.energy_j == before.measured.energy_j
        assert plan.weight_bytes(step) == one.weight_bytes(step)


def test_an_inference_on_one_device_of_many_is_that_on_one(small):
    asked = {"prompt": 20, "output": 3, "batch": 2}
    alone = infer(small, "ascend-910b", **asked).to_dict()
    for plan in (None, "tp=1"):
        found = infer(small, "ascend-910b-x8", plan=plan, **asked).to_dict()
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
        assert each.report.energy_by_component_j["links"] == pytest.approx(alone.energy_j / 8)
    assert cost.measured.time_s == pytest.approx(
        sum(each.time_s for each in cost.operations), rel=1e-12
    )
    assert cost.energy_j == tensor * cost.measured.energy_j


@pytest.mark.parametrize("tensor", [2, 4])
def test_devices_read_their_part_of_the_weights(small, tensor):
    step = Step.decode(1, 8)
    whole, part = model_of(small), model_of(small, tensor=tensor)
    outer, vectors = small.outer_bytes, whole.architecture.outer_bytes
    assert tensor * (part.weight_bytes(step) - outer) == whole.weight_bytes(step) - vectors
    assert part.cost(step).measured.hbm_read_bytes < whole.cost(step).measured.hbm_read_bytes


def test_memory_is_that_of_a_device(small):
    asked = {"prompt": 20, "output": 3, "batch": 2}
    one, two = (infer(small, "ascend-910b-x8", plan=plan, **asked) for plan in (None, "tp=2"))
    assert 2 * two.memory.kv_bytes == one.memory.kv_bytes
    assert two.memory.weights_bytes < one.memory.weights_bytes
    assert two.memory.capacity_bytes == one.memory.capacity_bytes
    assert two.asked == {"plan": "tp=2"}
    assert two.energy_j == pytest.approx(
        two.generation.prefill.energy_j + sum(each.energy_j for each in two.generation.decode)
    )


def test_more_devices_than_the_system_has_are_refused(small):
    with pytest.raises(WorkloadError) as caught:
        infer(small, "ascend-910b-x2", prompt=4, plan="tp=4")
    assert str(caught.value) == (
        "plan: tp=4: found 4 devices, allowed: 2, which system ascend-910b-x2 has"
    )


def test_a_link_that_is_not_there_is_refused(small):
    with pytest.raises(ConfigError) as caught:
        infer(
            small,
            "ascend-910b-x8",
            prompt=4,
            settings={"machine.links.NVLink.bandwidth.value": "1 GB/s"},
        )
    assert str(caught.value) == (
        "--set machine.links.NVLink.bandwidth.value: found no links 'NVLink' in system "
        "ascend-910b-x8, allowed: HCCS"
    )


def test_a_slower_link_makes_a_slower_step(small):
    slow = {"machine.links.HCCS.bandwidth.value": "10 MB/s"}
    asked = {"prompt": 20, "plan": "tp=2"}
    found = infer(small, "ascend-910b-x8", settings=slow, **asked)
    assert found.time_s > infer(small, "ascend-910b-x8", **asked).time_s


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
    assert "plan: tp=3: found 4 heads in model qwen2" in " ".join(run.stderr.split())
