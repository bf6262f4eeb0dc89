"""What each command passes on, prints and writes."""

import json
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from accelsim.cli.options import kernels_from
from accelsim.library.kernels import Kernels
from accelsim.models.layer_names import FORMS
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.formats import Format
from accelsim.plotting.table import comparison_subject
from accelsim.quality.passages import Reading, Writing
from accelsim.version import VERSION

ONE = ("--machine", "edge-npu", "--workload", "w", "--kernel", "flash")
SEVERAL = ("--machine", "edge-npu", "--workload", "w", "--kernels", "dense,flash")


def test_version(accelsim_command):
    assert accelsim_command("--version").stdout == f"accelsim {VERSION}\n"


def test_run_prints_the_report(accelsim_command, simulator):
    done = accelsim_command("run", *ONE)
    assert (done.exit_code, done.stdout) == (0, "flash on edge-npu: 2000 cycles\n")
    assert simulator.calls == [("edge-npu", "w", "flash", {}, "compiled")]


def test_run_passes_settings_as_text(accelsim_command, simulator):
    words = ("--set", "workload.q_len=64", "--set", "machine.scratchpad.capacity = 512 KiB")
    accelsim_command("run", *ONE, *words, "--engine", "reference")
    settings = {"workload.q_len": "64", "machine.scratchpad.capacity": "512 KiB"}
    assert simulator.calls == [("edge-npu", "w", "flash", settings, "reference")]


def test_run_passes_a_recipe_on(accelsim_command, simulator):
    done = accelsim_command("run", *ONE[:-1], "flash(tile_q=64)")
    assert done.stdout == "flash(tile_q=64) on edge-npu: 2000 cycles\n"
    assert simulator.calls == [("edge-npu", "w", "flash(tile_q=64)", {}, "compiled")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (False, False)),
        (("--as-one",), (True, False)),
        (("--as-one", "--with-parts"), (True, True)),
    ],
)
def test_run_asks_for_one_program_where_the_user_does(accelsim_command, simulator, words, expected):
    accelsim_command("run", *ONE, *words)
    assert (simulator.one_program, simulator.with_parts) == expected


def test_a_kernel_need_not_be_named(accelsim_command, simulator):
    done = accelsim_command("run", *ONE[:-2])
    assert done.stdout == "dense on edge-npu: 4000 cycles\n"
    accelsim_command("program", *ONE[:-2])
    assert [call[2] for call in simulator.calls] == [None, None]


def test_the_shell_completes_names_of_kernels(simulator):
    assert kernels_from("") == ["dense", "flash"]
    assert kernels_from("fl") == ["flash"]
    assert kernels_from("flash(") == []


def test_run_prints_json_alone_and_null_for_what_json_cannot_hold(accelsim_command):
    done = accelsim_command("run", *ONE, "--format", "json", "--verbose")
    assert json.loads(done.stdout) == {
        "kernel": "flash",
        "recipe": "flash",
        "cycles": 2000,
        "accuracy": None,
        "energy_by_component_j": {"hbm": 1e-3, "cube": None},
    }


def test_run_writes_a_trace(accelsim_command, tmp_path):
    path = tmp_path / "t.json"
    done = accelsim_command("run", *ONE, "--trace", path)
    assert done.stderr == f"wrote {path}; open it with Perfetto\n"
    names = [event["name"] for event in json.loads(path.read_text())["traceEvents"]]
    assert {"load k", "matmul", "HBM bandwidth", "scratchpad use"} <= set(names)


@pytest.mark.parametrize("words", [("-q", "run"), ("run", "-q")])
def test_quiet_leaves_only_the_result(accelsim_command, tmp_path, words):
    done = accelsim_command(*words, *ONE, "--trace", tmp_path / "t.json")
    assert (done.stdout, done.stderr) == ("flash on edge-npu: 2000 cycles\n", "")


@pytest.mark.parametrize("words", [("--verbose", "run"), ("run", "--verbose")])
def test_verbose_says_how_long_it_took(accelsim_command, words):
    assert accelsim_command(*words, *ONE).stderr.startswith("simulated in ")
    assert accelsim_command("run", *ONE).stderr == ""


def test_compare_writes_table_and_figures(accelsim_command, tmp_path):
    done = accelsim_command("compare", *SEVERAL, "--out", tmp_path / "out", "--timeline")
    assert done.exit_code == 0, done.stderr
    assert "wrote compare.csv and 10 figures" in done.stderr
    assert pd.read_csv(tmp_path / "out" / "compare.csv")["cycles"].tolist() == [4000, 2000]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    stems = ("traffic", "energy", "roofline", "timeline-dense", "timeline-flash")
    assert written == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")} | {
        "compare.csv",
        "timeline-dense.csv",
        "timeline-flash.csv",
    }


def test_compare_shows_kernels_side_by_side(accelsim_command, tmp_path):
    done = accelsim_command("compare", *SEVERAL, "--out", tmp_path)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    assert ["time", "4 µs", "2 µs"] in lines
    assert ["HBM bytes of k", "5 MB", "5 MB"] in lines


def test_compare_tells_what_was_changed(accelsim_command, tmp_path):
    changed = ("--set", "workload.q_len=128", "--set", "machine.cores=2")
    done = accelsim_command("compare", *SEVERAL, *changed, "--out", tmp_path)
    assert "(q_len=128) on" in done.stdout
    assert "(cores=2)" in done.stdout
    table = pd.read_csv(tmp_path / "compare.csv")
    assert comparison_subject(table) == "w (q_len=128) on edge-npu (cores=2)"
    assert table["workload.q_len"].tolist() == [128, 128]
    assert table["machine.cores"].tolist() == [2, 2]


def test_compare_forgets_the_timelines_of_an_earlier_comparison(accelsim_command, tmp_path):
    accelsim_command("compare", *SEVERAL, "--out", tmp_path, "--timeline")
    accelsim_command("compare", *SEVERAL, "--out", tmp_path)
    assert not (tmp_path / "timeline-flash.csv").exists()


def test_compare_prints_json(accelsim_command, tmp_path):
    done = accelsim_command("compare", *SEVERAL, "--out", tmp_path, "--format", "json")
    assert [row["kernel"] for row in json.loads(done.stdout)] == ["dense", "flash"]


RECIPES = ("flash", "flash(tile_q=64)", 'flash(precision="a/b, c")')


def test_compare_takes_recipes_of_one_kernel(accelsim_command, simulator, tmp_path):
    words = (*SEVERAL[:-1], ",".join(RECIPES), "--set", "workload.q_len=128", "--out", tmp_path)
    done = accelsim_command("compare", *words, "--timeline")
    assert done.exit_code == 0, done.stderr
    assert [call[2] for call in simulator.calls] == list(RECIPES)
    assert all(call[3] == {"workload.q_len": "128"} for call in simulator.calls)
    assert pd.read_csv(tmp_path / "compare.csv")["kernel"].tolist() == list(RECIPES)
    assert {path.name for path in tmp_path.glob("timeline*.png")} == {
        "timeline-flash.png",
        "timeline-flash(tile_q=64).png",
        'timeline-flash(precision="a%2Fb, c").png',
    }
    accelsim_command("compare", *words)
    assert list(tmp_path.glob("timeline*.csv")) == []


def test_a_long_recipe_has_a_timeline_too(accelsim_command, tmp_path):
    recipes = [f"flash(precision={'x' * 300}{end})" for end in "ab"]
    words = (*SEVERAL[:-1], ",".join(recipes), "--out", tmp_path, "--timeline")
    done = accelsim_command("compare", *words)
    assert done.exit_code == 0, done.stderr
    assert len(list(tmp_path.glob("timeline*.png"))) == 2


def test_sweep_tells_what_became_of_the_points(accelsim_command, simulator, tmp_path):
    words = ("--executor", "dask", "--address", "tcp://head:8786", "--workers", 2)
    done = accelsim_command("sweep", tmp_path / "s.yaml", "--out", tmp_path, *words)
    assert done.stdout == ("3 points: 2 ok, 1 infeasible (2 run now); 1 excluded by constraints\n")
    assert done.stderr.startswith("sweeping tiles ")
    assert done.stderr.endswith(f"wrote {tmp_path}/results.csv and {tmp_path}/results.parquet\n")
    ((spec, out, how),) = simulator.calls
    del how["progress"]
    assert (spec, out) == (tmp_path / "s.yaml", tmp_path)
    assert how == {"executor": "dask", "address": "tcp://head:8786", "workers": 2}


@pytest.mark.parametrize(
    ("words", "stems"),
    [
        ((), ["pareto-energy_j-time_s", "roofline"]),
        (("--x", "tile_q", "--y", "time_s"), ["time_s-over-tile_q"]),
        (("--x", "time_s", "--y", "energy_j", "--pareto"), ["pareto-energy_j-time_s"]),
    ],
)
def test_plot_draws_from_the_saved_table(accelsim_command, results_table, words, stems):
    done = accelsim_command("plot", results_table, *words)
    assert done.exit_code == 0, done.stderr
    files = [results_table / f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg")]
    assert done.stderr == "".join(f"wrote {path}\n" for path in files)
    assert all(path.stat().st_size > 1000 for path in files)


def test_plot_draws_a_comparison_again(accelsim_command, tmp_path):
    accelsim_command("compare", *SEVERAL, "--out", tmp_path)
    (tmp_path / "energy.png").unlink()
    accelsim_command("plot", tmp_path)
    assert (tmp_path / "energy.png").is_file()


def test_program_is_cut_at_the_limit(accelsim_command):
    assert accelsim_command("program", *ONE, "--limit", 2).stdout == "0 load\n1 load\n"


def test_sweep_tells_what_the_table_does_not_show(accelsim_command, simulator, tmp_path):
    simulator.num_set_aside = 2
    simulator.free_keys = ("machine.clock", "machine.hbm.bandwidth")
    done = accelsim_command("sweep", tmp_path / "s.yaml", "--out", tmp_path)
    assert done.stderr.splitlines()[-3:-1] == [
        "2 older results are kept and not shown: made by other code, or from files that have "
        "changed since",
        "the area does not change with machine.clock, machine.hbm.bandwidth: what is best costs "
        "nothing, and wins every front (docs/sweeps.md)",
    ]
    simulator.num_set_aside, simulator.free_keys = 1, ()
    done = accelsim_command("sweep", tmp_path / "s.yaml", "--out", tmp_path)
    assert done.stderr.splitlines()[-2].startswith("1 older result is kept and not shown: ")


def test_kernels_say_what_they_are_for_and_whether_they_are_exact(accelsim_command):
    lines = [line.split("│") for line in accelsim_command("kernels").stdout.splitlines()]
    cells = {row[1].strip(): [cell.strip() for cell in row[2:5]] for row in lines if len(row) > 5}
    assert cells["dense"] == ["attention", "prefill, decode", "yes"]
    assert cells["flash"] == ["attention", "decode", "no"]


def test_figures_of_other_choices_have_other_names(accelsim_command, results_table):
    words = ("plot", results_table, "--x", "time_s", "--y", "energy_j")
    chosen = [
        *((), ("--by", "kernel"), ("--by", "tile_q", "--by", "kernel"), ("--pareto",)),
        *(("--pareto", "--by", "kernel"), ("--pareto", "--maximize", "time_s")),
    ]
    for more in chosen:
        assert accelsim_command(*words, *more).exit_code == 0
    assert sorted(path.stem for path in results_table.glob("*.png")) == sorted(
        [
            "energy_j-over-time_s",
            "energy_j-over-time_s-by-kernel",
            "energy_j-over-time_s-by-tile_q-by-kernel",
            "pareto-energy_j-time_s",
            "pareto-energy_j-time_s-by-kernel",
            "pareto-energy_j-time_s-most-time_s",
        ]
    )


def test_kernels_with_their_parameters(accelsim_command):
    printed = accelsim_command("kernels").stdout
    for text in ("flash attention", "tile_q", "absent", "Rows [q_len] of a tile.", "precision"):
        assert text in printed


def test_machines_are_listed_by_their_whole_names(accelsim_command):
    printed = accelsim_command("machines").stdout
    assert "ascend-910b" in printed
    assert "1.6 TB/s" in printed


def test_workloads_are_listed_by_their_whole_names(accelsim_command):
    printed = accelsim_command("workloads").stdout
    assert "attention-hybrid-small" in printed
    assert "30 x 32/8 heads, up to 256 x 8192 x 128, fp16, causal" in printed
    assert FORMS in " ".join(printed.split())


def test_formats_are_listed_with_what_they_are_made_of(accelsim_command):
    rows = [
        re.split(r" *│ *", line)[1:-1] for line in accelsim_command("formats").stdout.split("\n")
    ]
    found = {cells[0]: cells[1:] for cells in rows if cells}
    assert set(found) == {*Format, *BlockFormat}
    assert found["fp6_e3m2"] == ["6", "3", "2", "28", "largest", "largest"]
    assert found["fp8_e4m3"] == ["8", "4", "3", "448", "largest", "NaN"]
    assert found["fp16"] == ["16", "5", "10", "65504", "infinity", "NaN"]
    assert found["int8"] == ["8", "", "7", "127", "largest", "0"]
    assert found["nvfp4"] == ["fp4_e2m1", "fp8_e4m3", "16", "4.5", "6", "fp32"]
    assert found["mxint8"] == ["int8", "e8m0", "32", "8.25", "1.9844", ""]


@pytest.mark.parametrize(("kind", "key"), [("machine", "scratchpad"), ("workload", "oneOf")])
def test_schema_is_json(accelsim_command, kind, key):
    assert key in str(json.loads(accelsim_command("schema", kind).stdout))


def test_quality_reads_the_default_text_on_the_default_machine(accelsim_command, simulator):
    done = accelsim_command("quality", "--kernel", "flash")
    assert (done.exit_code, done.stdout) == (0, "perplexity 12.7\n")
    expected = ("smollm2", [None], Kernels("flash"), {}, "ascend-910b", Reading(["reference"]))
    assert simulator.calls == [expected]
    assert "flash in smollm2" in done.stderr


def test_quality_takes_a_kernel_for_the_linears(accelsim_command, simulator, shipped_kernels):
    done = accelsim_command("quality", "--linear", "gemm(tile_m=64)")
    kernels = Kernels(linear="gemm(tile_m=64)")
    expected = ("smollm2", [None], kernels, {}, "ascend-910b", Reading(["reference"]))
    assert simulator.calls == [expected]
    assert "gemm(tile_m=64) in smollm2" in done.stderr


def test_quality_reads_the_same_text_with_several_formats_of_the_cache(accelsim_command, simulator):
    formats = ["fp8_e4m3(scales=head)", "int4"]
    words = [word for each in formats for word in ("--kv", each)]
    done = accelsim_command("quality", *words)
    assert (done.exit_code, done.stdout) == (0, "perplexity 12.7\n" * 2)
    assert simulator.calls[0][:3] == ("smollm2", formats, Kernels())
    assert "fp8_e4m3(scales=head) and int4 in smollm2" in done.stderr
    done = accelsim_command("quality", *words, "--format", "json")
    assert json.loads(done.stdout) == [{"perplexity": None, "tokens": 8}] * 2


def test_quality_passes_everything_on_and_prints_json_alone(accelsim_command, simulator, tmp_path):
    words = (
        "--model",
        "other",
        "--machine",
        "edge-npu",
        "--tokens",
        "8",
        "--set",
        "machine.cores=4",
    )
    words += (
        "--text",
        tmp_path / "t.txt",
        "--text",
        "legal",
        "--window",
        "4",
        "--prompt",
        "2",
        "--prefill",
        "dense",
        "--format",
        "json",
        "--verbose",
    )
    done = accelsim_command("quality", "--kernel", "flash", *words)
    assert json.loads(done.stdout) == {"perplexity": None, "tokens": 8}
    reading = Reading([str(tmp_path / "t.txt"), "legal"], 8, 4, 2, "dense")
    expected = ("other", [None], Kernels("flash"), {"machine.cores": "4"}, "edge-npu", reading)
    assert simulator.calls == [expected]
    assert "read 8 tokens in " in done.stderr


def test_needle_passes_everything_on(accelsim_command, shipped_kernels, monkeypatch):
    from accelsim.quality.search import Search

    calls = []

    def compare_needles(*arguments, progress, **others):
        progress(60, 60)
        calls.append((arguments, others))
        return [SimpleNamespace(to_dict=lambda: {"found": 1}) for _ in arguments[1]]

    module = ModuleType("accelsim.quality.needle")
    module.compare_needles = compare_needles
    monkeypatch.setitem(sys.modules, module.__name__, module)
    done = accelsim_command("needle", "--kernel", "sift", "--format", "json")
    assert json.loads(done.stdout) == {"found": 1}
    defaults = ("smollm2", [Kernels("sift")], {}, "ascend-910b", ["reference"], Search())
    assert calls.pop() == (defaults, {"prefill": None})
    several = ("--kernel", "sift", "-k", "topk", "--decode", "--prefill", "flash")
    done = accelsim_command("needle", *several, "--format", "json")
    assert json.loads(done.stdout) == [{"found": 1}, {"found": 1}]
    arguments, others = calls.pop()
    assert (arguments[1], arguments[-1]) == (
        [Kernels("sift"), Kernels("topk")],
        Search(decode=True),
    )
    assert others == {"prefill": "flash"}
    words = ("--linear", "gemm", "--machine", "edge-npu", "--set", "workload.dtype=fp32")
    words += ("--text", "novel", "--text", "legal", "--length", "300", "--length", "600")
    words += ("--depth", "0", "--depth", "1", "--trials", "3", "--seed", "5", "--model", "other")
    done = accelsim_command("needle", *words)
    assert "gemm in other" in done.stderr
    search = Search(lengths=(300, 600), depths=(0.0, 1.0), trials=3, seed=5)
    settings = {"workload.dtype": "fp32"}
    kernels = [Kernels(linear="gemm")]
    expected = ("other", kernels, settings, "edge-npu", ["novel", "legal"], search)
    assert calls == [(expected, {"prefill": None})]


@pytest.mark.parametrize(
    ("command", "more", "told"),
    [("generate", (), {}), ("speculate", ("--length", "3"), {"length": 3, "seed": 0})],
)
def test_what_writes_passes_everything_on(
    accelsim_command, shipped_kernels, monkeypatch, command, more, told
):
    calls = []

    def write(*arguments, **others):
        calls.append((arguments, others))
        return SimpleNamespace(to_dict=lambda: {"written": "x"})

    module = ModuleType(f"accelsim.quality.{command}")
    setattr(module, command, write)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    words = ("--text", "novel", "--prompt", "9", "--tokens", "4", "--linear", "gemm", *more)
    words += ("--prefill", "flash", "--set", "machine.cores=4", "--machine", "edge-npu")
    done = accelsim_command(command, "--kernel", "sift", *words, "--format", "json")
    assert json.loads(done.stdout) == {"written": "x"}
    asked = ("smollm2", Kernels("sift", "gemm"), {"machine.cores": "4"}, "edge-npu")
    assert calls == [((*asked, Writing("novel", 9, 4, "flash")), told)]


def test_thresholds_passes_everything_on_and_writes_the_file(
    accelsim_command, monkeypatch, tmp_path
):
    from accelsim.kernels.attention.decode import thresholds as files
    from accelsim.quantization.calibration import Sampling

    calls, path = [], tmp_path / "t.safetensors"

    def learn_thresholds(*arguments):
        *passed, progress = arguments
        progress(2, 2)
        calls.append(tuple(passed))
        return SimpleNamespace(sums=np.zeros((2, 30, 9, 5)))

    module = ModuleType("accelsim.quality.thresholds")
    module.learn_thresholds, module.DEFAULT_TAUS = learn_thresholds, (0.75,)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(files, "save_thresholds", lambda _found, written: calls.append(written))
    words = ("--tau", "0.5", "--tau", "0.9", "--every", "4", "--text", "code")
    words += ("--windows", "3", "--window", "32", "--first-token", "7", "--model", "other")
    done = accelsim_command("thresholds", "--out", path, *words)
    assert done.exit_code == 0
    sampling = Sampling(windows=3, window=32, first_token=7)
    assert calls == [("other", [0.5, 0.9], sampling, ["code"], 4), path]
    told = f"wrote 2 laws of each of 9 heads in 30 layers to {path}"
    assert told in done.stderr.replace("\n", "")
    refused = accelsim_command("thresholds", "--out", tmp_path / "t.npz")
    assert refused.exit_code == 2
    assert "found the ending '.npz', allowed: .safetensors" in refused.stderr.replace("\n", "")


@pytest.mark.parametrize("command", ["quality", "needle", "calibrate", "thresholds"])
def test_help_names_every_kind_of_text(accelsim_command, command):
    from accelsim.workload.model.texts import EVERY_KIND, KINDS

    words = re.sub(r"[\s│,()]+", " ", accelsim_command(command, "--help").stdout)
    assert f"Kind of text {' '.join(KINDS)} or {EVERY_KIND} or file" in words


def test_model_fetch_says_where_it_is(accelsim_command, monkeypatch, tmp_path):
    def fetch(name, progress):
        progress(5, 10)
        return tmp_path / name

    monkeypatch.setattr("accelsim.workload.model.release.fetch_model", fetch)
    done = accelsim_command("model", "fetch", "smollm2")
    assert done.stderr.endswith(
        f"smollm2 is in {tmp_path}/smollm2; license of the weights: Apache-2.0\n"
    )


def test_model_list_says_what_can_be_fetched(accelsim_command, monkeypatch):
    installed = "smollm2"
    monkeypatch.setattr(
        "accelsim.workload.model.release.is_fetched", lambda name: name == installed
    )
    lines = accelsim_command("model", "list").stdout.splitlines()
    rows = {name: line for line in lines for name in (installed, "gemma3-270m") if name in line}
    assert "Apache-2.0" in rows[installed]
    assert "134,515,008" in rows[installed]
    assert rows[installed].rstrip("\u2502 ").endswith("yes")
    assert "Gemma Terms of Use" in rows["gemma3-270m"]
    assert rows["gemma3-270m"].rstrip("\u2502 ").endswith("no")


def test_model_tensors_lists_what_was_written(accelsim_command, monkeypatch, tmp_path):
    def capture(*arguments):
        assert arguments == ("smollm2", None, 64, [0, 11], tmp_path / "t.npz")
        return {"layer0.q": (9, 64, 64)}

    monkeypatch.setattr("accelsim.workload.model.capture.capture_tensors", capture)
    words = ("smollm2", "--tokens", 64, "--layers", "0,11", "--out", tmp_path / "t.npz")
    done = accelsim_command("model", "tensors", *words)
    assert done.stdout == "layer0.q  9 x 64 x 64\n"
    assert done.stderr == f"wrote {tmp_path}/t.npz\n"


def test_calibrate_passes_everything_on_and_writes_the_file(
    accelsim_command, monkeypatch, tmp_path
):
    from accelsim.quantization import calibration, calibration_file
    from accelsim.quantization.calibration import Sampling
    from accelsim.quantization.channel_groups import GroupOptions

    calls, path = [], tmp_path / "c.safetensors"

    def calibrate(*arguments, weight_bits):
        *passed, progress = arguments
        progress(2, 2)
        calls.append((*passed, weight_bits))
        return SimpleNamespace(inputs=range(8), weights=range(14))

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    monkeypatch.setattr(calibration_file, "save_calibration", lambda *call: calls.append(call))
    words = ("--bits", "4", "--groups", "6", "--chunk-rows", "64", "--first-rows", "1", "--bias")
    words += ("--base", "static", "--rounding", "best", "--quantile", "0.9")
    words += ("--rotation", "hadamard", "--rotation-block", "32", "--weight-bits", "4")
    words += ("--windows", "3", "--window", "32", "--first-token", "7")
    texts = ("--text", tmp_path / "t.txt", "--text", "code")
    done = accelsim_command("calibrate", "--out", path, *words, *texts)
    assert done.exit_code == 0
    options = GroupOptions(
        bits=4,
        base="static",
        groups=6,
        chunk_rows=64,
        first_rows=1,
        use_bias=True,
        rounding="best",
        quantile=0.9,
        rotation="hadamard",
        rotation_block=32,
    )
    sampling = Sampling(windows=3, window=32, first_token=7)
    (arguments, (_, written)) = calls
    assert arguments == ("smollm2", options, sampling, [str(tmp_path / "t.txt"), "code"], 4)
    assert written == path
    told = f"wrote 8 inputs of linears, and 14 linears in codes of 4 bits to {path}"
    assert told in done.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "options", "weight_bits"),
    [
        ((), {"groups": 1, "rotation": "hadamard"}, 8),
        (
            ("--bits", "4", "--weights", "nearest"),
            {
                "bits": 4,
                "groups": 4,
                "ranges": "typical",
                "candidates": 6,
                "rotation": "hadamard",
            },
            None,
        ),
        (
            ("--bits", "4", "--groups", "8", "--ranges", "largest", "--candidates", "2"),
            {"bits": 4, "candidates": 2, "rotation": "hadamard"},
            8,
        ),
        (("--base", "static"), {"base": "static"}, 8),
    ],
)
def test_calibrate_takes_the_best_form_but_for_what_is_asked(
    accelsim_command, monkeypatch, tmp_path, words, options, weight_bits
):
    from accelsim.quantization import calibration, calibration_file
    from accelsim.quantization.channel_groups import GroupOptions

    calls = []

    def calibrate(model, chosen, *others, weight_bits):
        calls.append((chosen, weight_bits))
        return SimpleNamespace(inputs=range(8), weights=())

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    monkeypatch.setattr(calibration_file, "save_calibration", lambda *call: None)
    done = accelsim_command("calibrate", "--out", tmp_path / "c.safetensors", *words)
    assert done.exit_code == 0
    assert calls == [(GroupOptions(**options), weight_bits)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--bits", "5"), "bits: found 5, allowed: 4 or 8"),
        (("--rounding", "x"), "rounding: found 'x', allowed: up, down, best"),
        (("--base", "x"), "base: found 'x', allowed: row, static"),
        (("--groups", "0"), "groups: found 0, allowed: 1 to 32"),
        (("--ranges", "x"), "ranges: found 'x', allowed: largest, typical"),
        (("--rotation", "x"), "rotation: found 'x', allowed: none, hadamard"),
        (("--quantile", "nan"), "quantile: found nan, allowed: above 0, and 1 at most"),
        (("--weights", "x"), "--weights: found 'x', allowed: gptq, nearest"),
        (("--weight-bits", "5"), "bits: found 5, allowed: 4 or 8"),
        (("--windows", "0"), "windows: found 0, allowed: 1 or more"),
        (("--out", "c.npz"), "c.npz: found the ending '.npz', allowed: .safetensors"),
    ],
)
def test_calibrate_refuses_before_it_reads_the_model(accelsim_command, words, expected):
    done = accelsim_command("calibrate", "--out", "c.safetensors", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{expected}\n")


def test_architectures_are_listed_by_their_whole_names(accelsim_command):
    printed = accelsim_command("models").stdout
    assert "mistral-nemo-12b" in printed
    assert "12 with window 128" in printed


def test_an_architecture_is_shown_with_its_kinds_of_layers(accelsim_command):
    printed = accelsim_command("models", "show", "deepseek-v3.2").stdout
    for text in ("671,877,944,064", "best 2048 keys", "8 of 256 experts of 2048 + 2048", "674 GB"):
        assert text in printed
    assert "head tied" in accelsim_command("models", "show", "qwen3_0.6b").stdout


def test_an_architecture_as_json_has_its_counts(accelsim_command):
    shown = json.loads(
        accelsim_command("models", "show", "llama-4-scout", "--format", "json").stdout
    )
    assert shown["parameters"] == 107_769_861_120
    assert shown["active_parameters"] == 17_172_894_720
    assert shown["kv_bytes_per_token"] == 196_608
    assert [each["count"] for each in shown["layers"]] == [36, 12]
