"""A whole model on a system: sums, closed forms, memory, and what is refused."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import accelsim
from accelsim.bench import Bench
from accelsim.cli.main import app
from accelsim.config.shipped import known_names
from accelsim.errors import AccelsimError, ConfigError, DoesNotFitError, WorkloadError
from accelsim.inference.cost import StepModel, sustained
from accelsim.inference.generation import generate
from accelsim.inference.memory import largest_batch, memory_use
from accelsim.inference.request import infer
from accelsim.inference.requests import Requests
from accelsim.inference.step_cost import time_by_operation
from accelsim.inference.stored_weights import weight_bytes, weight_bytes_read
from accelsim.inference.system import System
from accelsim.inference.tracing import layer_timeline
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.loading import LoadedSystem, load_machine, load_system
from accelsim.models.families.registry import read_architecture
from accelsim.models.loading import load_architecture
from accelsim.models.model import Model
from accelsim.models.operations.step import operations_of
from accelsim.models.step import Sequences, Step
from accelsim.report.measured import Measured
from tests.small_models import SMALL

CONFIG = {**SMALL, "max_position_embeddings": 400}


@pytest.fixture
def accelsim_command():
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def small():
    return read_architecture(CONFIG, "")


@pytest.fixture(scope="module")
def model(small):
    system = load_system("ascend-910b")
    return StepModel(small, LoadedSystem(system, load_machine(system.machine)))


def test_a_step_is_the_sum_of_its_operations(model, small):
    step = Step((Sequences(1, 60, 2), Sequences(16, 32)))
    cost = model.cost(step)
    runs = [
        (each.count, Bench(model.machine).execute(each.problem)[0])
        for each in operations_of(small, step)
    ]
    assert cost.measured == sum((count * report for count, report in runs), Measured())
    assert sum(time_by_operation(cost).values()) == pytest.approx(cost.time_s, rel=1e-12)
    assert cost.measured.macs >= cost.model_macs
    assert cost.model_macs == sum(
        each.count * each.problem.macs for each in operations_of(small, step)
    )


def test_a_step_of_no_less_work_takes_no_less_than_its_weights(model, small):
    cost = model.cost(Step.decode(2, 64))
    read = weight_bytes(model, Step.decode(2, 64)) - small.table_bytes
    assert cost.measured.hbm_read_bytes >= read
    assert cost.measured.time_s >= read / model.machine.hbm.bandwidth


def test_weights_are_those_of_the_file_where_kernels_store_them_as_they_are(model, small):
    assert weight_bytes(model, Step.decode(1, 8)) == small.weight_bytes - 3 * 4 * 2 * 32 * 2


def test_a_tied_head_counts_once_where_it_is_stored_as_the_embedding_is():
    tied = read_architecture({**CONFIG, "tie_word_embeddings": True}, "")
    apart = read_architecture({**CONFIG, "tie_word_embeddings": False}, "")
    system, table_bytes, step = load_system("ascend-910b"), 512 * 128 * 2, Step.decode(1, 8)
    machine = load_machine(system.machine)

    def shared_bytes(linear):
        models = [
            StepModel(each, LoadedSystem(system, machine), kernels=Kernels(linear=linear))
            for each in (apart, tied)
        ]
        assert weight_bytes_read(models[0], step) == weight_bytes_read(models[1], step)
        return weight_bytes(models[0], step) - weight_bytes(models[1], step)

    assert shared_bytes(None) == table_bytes
    assert shared_bytes(Recipe("weight_only")) == 0


def test_weights_in_four_bits_take_a_quarter(small):
    system = load_system("ascend-910b")
    machine = load_machine(system.machine)
    codes = StepModel(
        small, LoadedSystem(system, machine), kernels=Kernels(linear=Recipe("weight_only"))
    )
    plain = StepModel(small, LoadedSystem(system, machine))
    step = Step.decode(1, 8)
    rest = small.outer_bytes
    ratio = (weight_bytes(codes, step) - rest) / (weight_bytes(plain, step) - rest)
    assert ratio == pytest.approx((4 + 16 / 128) / 16, rel=1e-3)


def test_the_host_adds_what_its_file_says(model):
    host = model.system.host
    changed = host.model_copy(
        update={
            name: getattr(host, name).model_copy(update={"value": value})
            for name, value in {"step": 1.0, "layer": 10.0, "request": 100.0, "launch": 1e3}.items()
        }
    )
    system = model.system.model_copy(update={"host": changed})
    other = StepModel(model.architecture, LoadedSystem(system, model.machine))
    cost = other.cost(Step.decode(2, 16))
    launches = sum(each.count for each in cost.operations)
    assert cost.host_s == 1.0 + 3 * 10.0 + 2 * 100.0 + 1e3 * launches
    assert cost.time_s == cost.measured.time_s + cost.host_s


def test_a_generation_is_a_prefill_and_a_step_a_token(model):
    found = generate(model, Requests(batch=2, prompt=20, output=5), "exact")
    steps = [model.cost(Step.decode(2, cached)) for cached in (20, 21, 22, 23)]
    assert found.decode == tuple(steps)
    assert found.decode_time_s == pytest.approx(sum(each.time_s for each in steps), rel=1e-12)
    assert found.time_to_first_token_s == model.cost(Step.prefill(2, 20)).time_s
    assert found.time_per_token_s == pytest.approx(found.decode_time_s / 4, rel=1e-12)
    assert found.error == 0


def test_interpolated_steps_are_near_the_exact_ones_and_say_how_near(model):
    exact = generate(model, Requests(batch=1, prompt=64, output=80), "exact")
    near = generate(model, Requests(batch=1, prompt=64, output=80), "interpolated")
    assert len(near.decode) == 17
    assert near.decode_time_s == pytest.approx(exact.decode_time_s, rel=near.error + 1e-3)
    assert 0 <= near.error < 0.05
    assert near.num_steps == exact.num_steps == 79


def test_one_token_needs_no_step(model):
    found = generate(model, Requests(batch=1, prompt=16, output=1), "exact")
    assert found.decode == ()
    assert found.time_per_token_s == 0
    assert found.middle is found.prefill


def test_a_recipe_takes_the_place_of_the_library(small):
    system = load_system("ascend-910b")
    machine = load_machine(system.machine)
    model = StepModel(
        small, LoadedSystem(system, machine), kernels=Kernels(attention=Recipe("split_kv"))
    )
    kernels = {
        each.name: each.report.kernel
        for each in model.cost(Step((Sequences(1, 64), Sequences(24)))).operations
    }
    assert kernels["attention of steps"] == "split_kv"
    assert kernels["attention of prompts"] == "flash"


def test_a_kernel_for_other_problems_is_refused():
    with pytest.raises(WorkloadError) as caught:
        Kernels(linear=Recipe("flash"))
    assert str(caught.value) == (
        "linear: kernel flash is for attention problems, but it is to compute the linears of a "
        "model; allowed: gemm, tender, requantized, quantized, smoothquant, outlier_split, "
        "weight_only, mx"
    )


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("linear", "gem", "linear: unknown kernel 'gem', did you mean 'gemm'?; known: "),
        ("attention", "nope", "attention: unknown kernel 'nope'; known: "),
        ("attention", "flash(", "attention: recipe 'flash(': found no closing bracket"),
        ("linear", "gemm(tile_z=3)", "linear: gemm: tile_z: unknown key, did you mean 'tile_"),
        ("attention", "gemm", "attention: kernel gemm is for gemm problems, but it is to compute"),
    ],
)
def test_what_is_wrong_with_a_kernel_names_its_option(option, text, message):
    with pytest.raises(AccelsimError) as caught:
        Kernels(**{option: text})
    assert str(caught.value).startswith(message)


def test_memory_is_weights_and_caches_and_rows(small):
    use = memory_use(small, 10**9, 10**6, lambda count: (Step.prefill(count, 8),), 3, 50)
    assert use.kv_bytes == 3 * 50 * 3 * 2 * 2 * 32 * 2
    # The activation reads two rows of 256 elements a token, and writes one.
    assert use.activation_bytes == 3 * 8 * 2 * (128 + 3 * 256)
    assert use.free_bytes == 10**9 - 10**6 - use.kv_bytes - use.activation_bytes


def test_the_largest_batch_fits_and_one_more_does_not(small):
    def use(batch):
        return memory_use(small, 10**8, 10**6, lambda count: (Step.prefill(count, 8),), batch, 50)

    most = largest_batch(use)
    assert use(most).free_bytes >= 0 > use(most + 1).free_bytes
    none = memory_use(small, 10**6, 10**6, lambda count: (Step.decode(count, 8),), 1, 50)
    assert largest_batch(lambda _: none) == 0


def test_what_does_not_fit_says_what_is_short():
    with pytest.raises(DoesNotFitError) as caught:
        infer("llama-3.1-8b", "ascend-910b", batch=64, prompt=100_000)
    assert str(caught.value) == (
        "system ascend-910b: needs 1.458 TB for batch 64 (16.06 GB weights, 838.9 GB KV cache, "
        "602.9 GB activations), has 68.72 GB, 1.389 TB short; the largest batch that fits is 2"
    )
    with pytest.raises(DoesNotFitError, match="not even one sequence fits; choose a smaller model"):
        infer("llama-3.1-70b", "ascend-910b", prompt=100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 0, "prompt": 8}, "batch: found 0, allowed: 1 or more"),
        ({"prompt": 0}, "prompt: found 0, allowed: 1 or more"),
        ({"prompt": 8, "output": 0}, "output: found 0, allowed: 1 or more"),
        (
            {"prompt": 400, "output": 2},
            "prompt and output: found 402 tokens together, allowed: 400, the longest context of "
            "the model",
        ),
    ],
)
def test_requests_that_cannot_be_are_refused(small, arguments, message):
    with pytest.raises(WorkloadError) as caught:
        infer(small, "ascend-910b", **arguments)
    assert str(caught.value) == message


def test_weights_in_formats_that_no_kernel_is_chosen_for_are_refused():
    with pytest.raises(AccelsimError, match="steps of models with weights in mxfp4 are not known"):
        infer("gpt-oss-20b", "h200", prompt=8)


def test_an_unknown_system_is_answered_with_those_that_are_known(small):
    with pytest.raises(AccelsimError, match="unknown system 'h20', did you mean 'h200'"):
        infer(small, "h20", prompt=8)


def test_step_after_step_a_device_is_under_its_cap():
    machine = load_machine("h200-sxm")
    assert sustained(machine).power.duty == "sustained"
    plain = load_machine("ascend-910b")
    assert sustained(plain) == plain


def test_an_inference_is_shown_in_tables_and_as_json(small):
    found = infer(small, "ascend-910b", batch=2, prompt=32, output=4)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["tokens_per_s"] == pytest.approx(2 * 4 / found.time_s)
    assert plain["memory"]["free_bytes"] == found.memory.free_bytes
    assert plain["decode"]["recipes"]["qkv"].startswith("gemm")
    assert 0 < found.decode.mbu < 1
    assert 0 < found.prefill.mfu < 1
    assert sum(found.decode.time_by_operation_s.values()) == pytest.approx(found.decode.time_s)
    assert found.time_s == pytest.approx(
        found.time_to_first_token_s + 3 * found.time_per_token_s, rel=1e-12
    )


def test_the_shipped_systems_name_machines_that_ship():
    for name in known_names("system"):
        load_machine(load_system(name).machine)


def test_it_is_part_of_the_interface():
    assert accelsim.infer is infer
    assert (accelsim.Model, accelsim.System, accelsim.Kernels) == (Model, System, Kernels)
    assert load_architecture("llama-3-8b").parameters > 0


def test_what_is_asked_is_told(small):
    asked = Model(small, "fp8_e4m3", "fp8_e4m3"), System("h200-x8", "tp=2"), Kernels("split_kv")
    found = infer(*asked, prompt=16, output=2)
    assert found.asked == {
        "attention": "split_kv",
        "weights": "fp8_e4m3",
        "kv": "fp8_e4m3",
        "plan": "tp=2",
    }
    assert (found.model, found.system) == ("qwen2", "h200-x8")
    assert "accelsim" not in json.dumps(found.to_dict())


def test_a_model_on_a_system_is_shown_with_its_operations(accelsim_command, tmp_path):
    keys = {
        "model_type": "llama",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "vocab_size": 512,
    }
    (tmp_path / "config.json").write_text(json.dumps(keys))
    asked = ("infer", "--model", tmp_path, "--system", "ascend-910b", "--prompt", "32")
    printed = accelsim_command(*map(str, asked), "--output", "3").stdout
    for text in ("time to first token", "largest batch", "gate-up", "attention of steps", "MBU"):
        assert text in printed
    shown = json.loads(accelsim_command(*map(str, asked), "--format", "json").stdout)
    assert shown["time_s"] == shown["time_to_first_token_s"]
    assert shown["decode"]["recipes"]["attention of prompts"].startswith("flash")


def test_a_model_that_does_not_fit_is_one_line(accelsim_command):
    failed = accelsim_command(
        "infer", "--model", "llama-3.1-70b", "--system", "h100", "--prompt", "9"
    )
    assert failed.exit_code == 2
    assert failed.stderr.startswith("system h100: needs 141.")
    assert len(failed.stderr.splitlines()) == 1


def test_weights_in_fp8_are_asked_for_by_name(small):
    plain, coded = (
        infer(Model(small, weights=weights), "h200", prompt=16) for weights in (None, "fp8_e4m3")
    )
    of_layers = 3 * (128 * (4 + 2 * 2) * 32 + 128 * 128 + 3 * 128 * 256)
    assert plain.memory.weights_bytes - coded.memory.weights_bytes == of_layers
    added = set(coded.prefill.time_by_operation_s) - set(plain.prefill.time_by_operation_s)
    assert added == {"cast of attention"}


def test_a_kv_cache_in_fp8_is_asked_for_by_name(small):
    plain, coded = (
        infer(Model(small, kv=kv), "h200", prompt=16, output=2) for kv in (None, "fp8_e4m3")
    )
    assert coded.memory.kv_bytes * 2 == plain.memory.kv_bytes
    assert coded.largest_batch > plain.largest_batch
    assert coded.decode.hbm_bytes < plain.decode.hbm_bytes
    assert coded.to_dict()["asked"] == {"kv": "fp8_e4m3"}
    assert coded.to_row()["kernel"] == "kv=fp8_e4m3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kv", "fp8"), "kv: found 'fp8', allowed: "),
        (
            ("--kv", "fp8_e4m3", "--attention", "int_flash"),
            "workload attention of prompts: kernel int_flash reads K and V of the format and width "
            "of Q without scales, found K and V in fp8_e4m3 (kv_scales one) with rows of 32 and 32 "
            "elements beside Q in bf16; kernels that read these: dense, flash, split_kv\n",
        ),
    ],
)
def test_a_kv_cache_that_is_not_known_or_not_read_is_one_error(
    accelsim_command, tmp_path, words, message
):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    asked = ("infer", "--model", path, "--system", "ascend-910b", "--prompt", 8, "--quiet")
    found = accelsim_command(*asked, *words)
    assert found.exit_code == 2
    assert found.stderr.startswith(message)
    assert found.stderr.count("\n") == 1


def test_formats_of_weights_that_are_not_known_are_refused(accelsim_command, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    words = ["infer", "--model", path, "--system", "h200", "--prompt", 64]
    found = accelsim_command(*words, "--weights", "fp8")
    assert found.exit_code == 2
    assert "weights: found 'fp8'" in found.stderr
    assert "allowed: bf16, fp8_e4m3" in found.stderr


def test_tables_figures_and_the_trace_of_a_layer_are_written(accelsim_command, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    words = ["infer", "--model", tmp_path, "--system", "ascend-910b", "--prompt", 32]
    folder, trace = tmp_path / "out", tmp_path / "layer.json"
    found = accelsim_command(*words, "--output", 3, "--out", folder, "--trace", trace)
    assert found.exit_code == 0, found.stderr
    alone = infer(tmp_path, "ascend-910b", prompt=32, output=3)
    (row,) = pd.read_csv(folder / "infer.csv").to_dict("records")
    assert row["time_to_first_token_s"] == alone.time_to_first_token_s
    assert row["step_time_by_operation_s.qkv"] == alone.decode.time_by_operation_s["qkv"]
    assert row["machine"] == "ascend-910b"
    operations = pd.read_csv(folder / "operations.csv")
    device = operations[operations["workload"] == "prefill"]
    host_s = alone.prefill.time_by_operation_s["host"]
    whole = (device["count"] * device["time_s"]).sum() + host_s
    assert whole == pytest.approx(alone.prefill.time_s, rel=1e-12)
    for name in ("time", "energy", "roofline"):
        assert (folder / f"{name}.png").stat().st_size > 0
        (folder / f"{name}.png").unlink()
    assert accelsim_command("plot", folder).exit_code == 0
    assert (folder / "time.png").exists()
    events = json.loads(trace.read_text())["traceEvents"]
    assert any("gate-up" in json.dumps(each) for each in events)


@pytest.mark.parametrize("system", ["ascend-910b", "h200"])
def test_a_trace_of_a_layer_is_as_long_as_its_operations(small, system):
    found = infer(small, system, prompt=32, output=3)
    timeline = layer_timeline(found)
    layers = [each for each in found.generation.middle.operations if each.count == 3]
    took_s = sum(each.report.time_s for each in layers)
    assert timeline.cycles / timeline.clock_hz == pytest.approx(took_s, rel=1e-9)
    assert timeline.cycles == max(timeline.end_cycle)
    moved = sum(each.report.hbm_read_bytes + each.report.hbm_write_bytes for each in layers)
    assert timeline.hbm_bytes.sum() + timeline.hbm_bytes_at_end == moved


def test_a_trace_has_the_experts_that_were_asked_for():
    sparse = read_architecture(
        {**CONFIG, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}, ""
    )
    moved = {
        experts: layer_timeline(
            infer(Model(sparse, experts=experts), "ascend-910b", batch=16, prompt=8, output=2)
        ).hbm_bytes.sum()
        for experts in ("balanced", "spread_2")
    }
    assert moved["spread_2"] < moved["balanced"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "cannot write the trace: Is a directory"),
        ("absent/layer.json", "cannot write the trace: No such file or directory"),
    ],
)
def test_a_place_for_no_trace_is_refused_before_anything_runs(
    accelsim_command, tmp_path, place, message
):
    words = ["--model", "nobody-7b", "--system", "h200", "--prompt", 1, "--trace", tmp_path / place]
    found = accelsim_command("infer", *words)
    assert found.exit_code == 2
    assert found.stderr.strip() == f"{tmp_path / place}: {message}"


def test_a_batch_that_no_product_takes_is_told_the_largest_that_fits(small):
    with pytest.raises(DoesNotFitError, match=r"^system tender-asic: .* largest batch that fits"):
        infer(small, "tender-asic", batch=10**8, prompt=8)


def test_fields_of_the_machine_and_of_the_host_are_settings(small):
    plain = infer(small, "ascend-910b", prompt=16, output=2)
    slow = infer(
        small,
        System(
            "ascend-910b",
            settings={"machine.host.step.value": "1 ms", "machine.hbm.bandwidth": "100 GB/s"},
        ),
        prompt=16,
        output=2,
    )
    assert slow.decode.time_by_operation_s["host"] >= 1e-3
    assert slow.decode.mbu < 1
    assert slow.decode.time_by_operation_s["gate-up"] > plain.decode.time_by_operation_s["gate-up"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("workload.q_len", "--set workload.q_len: allowed: machine.<field> and machine.host"),
        ("machine.hbm.bandwith", "--set machine.hbm.bandwith: unknown key"),
        ("machine.host.stp", "--set machine.host.stp: unknown key"),
    ],
)
def test_settings_that_nothing_has_are_refused(small, key, message):
    with pytest.raises(ConfigError) as caught:
        infer(small, System("ascend-910b", settings={key: "1"}), prompt=16)
    assert message in str(caught.value)


def test_a_setting_without_a_value_is_told_one_that_a_system_has(accelsim_command):
    words = ["--model", "smollm2-135m", "--system", "h200", "--prompt", 1, "--set", "machine"]
    found = accelsim_command("infer", *words)
    assert found.exit_code == 2
    expected = "--set machine: found no key=value; allowed: --set machine.cores=16"
    assert found.stderr.strip() == expected
