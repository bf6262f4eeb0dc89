"""A layer of a model as a workload: what flows through it, and that it is what a step has."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.loading import LoadedWorkload, load_workload
from accelsim.models.families.registry import read_architecture
from accelsim.models.loading import load_architecture
from accelsim.models.operations.layer import layer_of
from accelsim.models.operations.step import operations_of
from accelsim.models.step import Step
from accelsim.simulation import simulate
from tests.small_models import SMALL

CONFIG = {**SMALL, "model_type": "qwen3"}
OUTER = ("embedding", "last norm", "head", "sampling")


@pytest.fixture(scope="module")
def small():
    return read_architecture(CONFIG, "")


@pytest.mark.parametrize("step", [Step.prefill(2, 16), Step.decode(3, 40)])
def test_all_layers_are_what_a_step_has_between_table_and_head(small, step):
    layer = layer_of(small, step)
    expected = [
        (each.problem, each.count)
        for each in operations_of(small, step)
        if each.problem.name not in OUTER
    ]
    assert [(part.problem, 3 * part.count) for part in layer.problems] == expected


def test_a_prompt_flows_from_the_norm_to_the_way_down(small):
    reads = {
        part.problem.name: part.reads for part in layer_of(small, Step.prefill(1, 16)).problems
    }
    assert reads == {
        "norm of attention": {},
        "qkv": {"a": "norm of attention.result"},
        "rotary": {"x": "qkv[0:192]"},
        "kv_write": {"x": "rotary[128:192]", "y": "qkv[192:256]"},
        "attention of prompts": {
            "q": "rotary[0:128]",
            "k": "rotary[128:192]",
            "v": "qkv[192:256]",
        },
        "output": {"a": "attention of prompts"},
        "norm of feed-forward": {"x": "output", "y": "norm of attention.sum"},
        "gate-up": {"a": "norm of feed-forward.result"},
        "activation": {"x": "gate-up[0:256]", "y": "gate-up[256:512]"},
        "down": {"a": "activation"},
    }


def test_keys_and_values_of_a_step_come_from_the_cache(small):
    reads = {part.problem.name: part.reads for part in layer_of(small, Step.decode(2, 40)).problems}
    assert reads["attention of steps"] == {"q": "rotary[0:128]"}


@pytest.mark.parametrize("name", ["mixtral-8x7b", "gemma-2-9b", "opt-6.7b", "deepseek-v2-lite"])
def test_every_kind_of_layer_is_a_workload(name):
    model = load_architecture(name)
    for number in (0, len(model.layers) - 1):
        layer = layer_of(model, Step.decode(2, 100), number)
        assert layer.problems[0].problem.name == "norm of attention"
        assert len(layer.sources) == len(layer.problems)


def test_a_layer_runs_as_one_program(small):
    workload = LoadedWorkload(layer_of(small, Step.prefill(1, 32)), Path())
    apart = simulate("ascend-910b", workload)
    together = simulate("ascend-910b", workload, one_program=True)
    assert together.macs == apart.macs
    assert together.hbm_read_bytes <= apart.hbm_read_bytes
    assert "5.output.a" in together.reads or "6.output.a" in together.reads


def test_a_printed_layer_is_read_back(small, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    words = ["models", "layer", str(tmp_path), "--new", "16", "--batch", "2"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.stderr
    file = tmp_path / "layer.yaml"
    file.write_text(found.stdout)
    expected = layer_of(load_architecture(tmp_path), Step.prefill(2, 16))
    assert expected.name == f"layer 0 of {tmp_path.name}"
    assert load_workload(file).problem == expected
    assert expected.problems == layer_of(small, Step.prefill(2, 16)).problems


def test_a_layer_that_is_not_there_is_refused():
    words = ["models", "layer", "llama-3-8b", "--new", "1", "--number", "32"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert found.stderr.strip() == "layer: found 32, allowed: 0 to 31, of the model"


def test_a_layer_behind_more_tokens_than_the_model_knows_is_refused():
    words = ["models", "layer", "llama-3-8b", "--new", "100", "--cached", "8100"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert found.stderr.strip() == (
        "layer: found 8200 new and cached tokens of a sequence, allowed: 8192, the longest context "
        "of the model"
    )
