"""What a user can get wrong, each with its whole message: exit code 2 and never a traceback."""

import io
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save

from accelsim.config.shipped import known_names
from accelsim.workload.model.release import RELEASES, model_folder

GEMM = ("run", "-m", "edge-npu", "-k", "gemm", "-w")
ROOT = Path(__file__).parents[2]
FLASH = ("run", "-m", "edge-npu", "-w", "attention-2048", "-k", "flash")
MACHINE = ROOT / "configs" / "machines" / "edge-npu.yaml"
FORMATS = "units: Hz, kHz, MHz, GHz, THz, PHz"


def refused(done):
    """The message of a command that ended as it should for a mistake."""
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert isinstance(done.exception, SystemExit)
    return done.stderr.removesuffix("\n")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "machine.coers=2",
            "--set machine.coers: unknown key, did you mean 'cores'?; allowed: extends, name, "
            "description, technology, library, clock, launch, cores, items_in_flight, placement, "
            "cube, int_mac, vector, scratchpad, accumulator, load, store, l2, hbm, power, sources",
        ),
        (
            "machine.clock=1 GB",
            f"--set machine.clock: found the unit 'GB' in '1 GB'; allowed {FORMATS}",
        ),
        (
            "machine.clock=1.8",
            f"--set machine.clock: found '1.8', a number without a unit; allowed {FORMATS}",
        ),
        (
            "machine.clock=nan GHz",
            "--set machine.clock: found 'nan GHz', which is not a finite number",
        ),
        (
            "machine.clock=-1 GHz",
            "--set machine.clock: found '-1 GHz', expected a value greater than or equal to 1",
        ),
        (
            "machine.cores=0",
            "--set machine.cores: found 0, expected a value greater than 0",
        ),
        ("machine.cores=2.0", "--set machine.cores: found 2.0, expected a valid integer"),
        (
            "machine.cores=100000",
            "--set machine.cores: found 100000, expected a value less than or equal to 65536",
        ),
        (
            "machine.hbm.interleave=1e30 B",
            "--set machine.hbm.interleave: found '1e30 B', expected a value less than or equal to "
            "1125899906842624",
        ),
        (
            "machine.cube.rates.fp16=nan",
            "--set machine.cube.rates.fp16: found 'nan', expected a valid number",
        ),
        (
            "machine.hbm.latency=0 s",
            f"{MACHINE}:1:1: found hbm.latency = 0 s with clock = 1e+09 Hz, allowed: a latency of "
            "at least one cycle of the clock",
        ),
        (
            "machine.clock=1 Hz",
            f"{MACHINE}:1:1: found hbm.latency = 1.2e-07 s with clock = 1 Hz, allowed: a latency "
            "of at least one cycle of the clock",
        ),
        (
            "machine.hbm.bandwidth=1 B/s",
            "flash on attention-2048 is too slow to simulate on machine edge-npu: one transfer "
            "would take 1.23e+13 cycles, allowed: 4294967296; look for a rate, a latency or a "
            "clock with the wrong unit",
        ),
        (
            "machine.scratchpad.capacity=1 TiB",
            "--set machine.scratchpad.capacity: technology '28nm' has no scratchpad of "
            "1099511627776 bytes: its table goes from 4096 to 201326592 bytes",
        ),
        (
            "machine.technology=7mn",
            "--set machine.technology: unknown technology '7mn', did you mean '7nm'?; "
            "known: 28nm, 4n, 7nm",
        ),
        (
            "machine.cube.kind=systolc",
            "--set machine.cube.kind: found 'systolc', did you mean 'systolic'?; "
            "allowed: 'cube', 'systolic'",
        ),
        (
            "machine.cube.tilem=8",
            "--set machine.cube.tilem: unknown key, did you mean 'tile_m'?; allowed: "
            "issue_cycles, setup, mixes, kind, tile_m, tile_n, tile_k, rates, "
            "pipeline_depth_cycles, operand_buffer, block_scales",
        ),
        (
            "tile_q=64",
            "--set tile_q: found no field of machine or workload, allowed: machine.<field>, "
            "workload.<field>; a parameter is written with its kernel: flash(tile_q=64)",
        ),
        (
            "flash.tile_q=64",
            "--set flash.tile_q: found no field of machine or workload, allowed: machine.<field>, "
            "workload.<field>; a parameter is written with its kernel: flash(tile_q=64)",
        ),
        (
            "workload.kv_len=2147483648",
            "--set workload.kv_len: found 2147483648, expected a value less than 2147483648",
        ),
        (
            "workload.batch=100000000",
            "workload attention-2048 does not fit the HBM of machine edge-npu: its tensors take "
            "209715200000000 B, 209710905032704 B more than the 4294967296 B (4 GiB) that are "
            "there; largest: q 52428800000000 B, k 52428800000000 B, v 52428800000000 B, o "
            "52428800000000 B; choose a smaller problem, narrower formats or a larger hbm.capacity",
        ),
        ("workload.q_len=-5", "--set workload.q_len: found -5, expected a value greater than 0"),
        (
            "workload.tensors.source=pickle",
            "--set workload.tensors.source: found 'pickle', did you mean 'file'?; allowed: "
            "'uniform', 'hybrid', 'file', 'model'",
        ),
    ],
)
def test_settings(accelsim_command, setting, message):
    assert refused(accelsim_command("-q", *FLASH, "--set", setting)) == message


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("flash(tile_q=0)", "flash: tile_q: found 0, expected a value greater than 0"),
        ("flash(tile_q=1e9)", "flash: tile_q: found 1000000000.0, expected a valid integer"),
        ("flash(tile_q=abc)", "flash: tile_q: found 'abc', expected a valid integer"),
        (
            "flash(code=warps)",
            "recipe 'flash(code=warps)': code: found 'warps', allowed by library npu: none",
        ),
        (
            "flash(tile_q)",
            "recipe 'flash(tile_q)': found 'tile_q' where key=value is expected; allowed: a "
            "kernel, such as flash(tile_q=128); in a YAML list, put quotes around what has "
            "brackets",
        ),
    ],
)
def test_recipes(accelsim_command, recipe, message):
    assert refused(accelsim_command("-q", *FLASH[:-1], recipe)) == message


OLD_SPELLINGS = [
    (
        ("compare", *FLASH[1:5], "-k", "dense,flash", "--set", "flash.tile_q=64", "-o", "out"),
        "--set flash.tile_q: found no field of machine or workload, allowed: machine.<field>, "
        "workload.<field>; a parameter is written with its kernel: flash(tile_q=64)",
    ),
    (
        ("quality", "-l", "gemm", "--set", "linear.tile_m=8"),
        "--set linear.tile_m: found no field of machine or workload, allowed: machine.<field>, "
        "workload.<field>; a parameter is written with its kernel: gemm(tile_m=8)",
    ),
    (
        ("program", *FLASH[1:], "--set", "tile_q=64"),
        "--set tile_q: found no field of machine or workload, allowed: machine.<field>, "
        "workload.<field>; a parameter is written with its kernel: flash(tile_q=64)",
    ),
    (
        ("run", *FLASH[1:5], "--set", "tile_q=64"),
        "--set tile_q: found no field of machine or workload, allowed: machine.<field>, "
        "workload.<field>; a parameter is written with its kernel: dense(tile_q=64)",
    ),
]


@pytest.mark.parametrize(("words", "message"), OLD_SPELLINGS)
def test_the_place_of_a_parameter_is_told(accelsim_command, words, message):
    assert refused(accelsim_command("-q", *words)) == message


@pytest.mark.parametrize("key", ["flash.tile_q", "tile_q"])
def test_the_place_of_a_parameter_in_a_sweep_is_told(accelsim_command, file, key):
    sweep = file("s.yaml", SWEEP.replace("axes: {key: [1]}", f"settings: {{{key}: 64}}"))
    assert refused(accelsim_command("sweep", sweep, "-o", "out")) == (
        f"s.yaml:5:12: settings.{key}: found the key '{key}', allowed: machine.<field> or "
        "workload.<field>; a parameter is written with its kernel, such as kernels: "
        '["flash(tile_q=128)"]'
    )


def test_a_recipe_in_a_list_needs_quotes(accelsim_command, file):
    sweep = file("s.yaml", SWEEP.replace("[gemm]", "[gemm(tile_m=8, tile_n=8)]"))
    assert refused(accelsim_command("sweep", sweep, "-o", "out", "--workers", 1)) == (
        "s.yaml: recipe 'gemm(tile_m=8': found no closing bracket; allowed: a kernel, such as "
        "flash(tile_q=128); in a YAML list, put quotes around what has brackets"
    )


def test_an_axis_of_a_parameter_needs_a_kernel(accelsim_command, file):
    text = SWEEP.replace("kernels: [gemm]\n", "").replace("key", "tile_m")
    assert refused(accelsim_command("sweep", file("s.yaml", text), "-o", "out")) == (
        "s.yaml: tile_m: found no kernel that it could be a parameter of; name the kernels, such "
        "as kernels: [flash]"
    )


def test_a_machine_with_a_library_that_nobody_knows(accelsim_command, file):
    machine = file("m.yaml", "extends: edge-npu\nname: own\nlibrary: nup\n")
    done = accelsim_command("-q", "run", "-m", machine, "-w", "gemm-1024")
    assert refused(done) == (
        "machine own: unknown library 'nup', did you mean 'npu'?; known: hopper, npu"
    )


def test_heads_that_kv_heads_do_not_divide(accelsim_command, file):
    lines = ["kind: attention", "name: w", "q_heads: 3", "kv_heads: 2", "head_dim: 8"]
    name = file("w.yaml", "\n".join([*lines, "q_len: 4", "kv_len: 4"]))
    done = accelsim_command("run", "-m", "edge-npu", "-k", "flash", "-w", name)
    assert refused(done) == "w.yaml:4:1: kv_heads: found 2, allowed: a divisor of q_heads = 3"


def test_tensors_that_fit_no_hbm(accelsim_command):
    done = accelsim_command(*GEMM, "gemm-1024", "--set", "machine.hbm.capacity=4 MiB")
    assert refused(done) == (
        "workload gemm-1024 does not fit the HBM of machine edge-npu: its tensors take 6291456 B, "
        "2097152 B more than the 4194304 B (0.003906 GiB) that are there; "
        "largest: a 2097152 B, b 2097152 B, c 2097152 B; "
        "choose a smaller problem, narrower formats or a larger hbm.capacity"
    )


def test_tiles_that_fit_no_scratchpad(accelsim_command):
    done = accelsim_command("-q", *FLASH, "--set", "machine.scratchpad.capacity=16 KiB")
    assert refused(done) == (
        "flash on attention-2048 does not fit the scratchpad of machine edge-npu: it needs "
        "48448 B, 16384 B (16 KiB) are there; buffers: scores 2 x 16x16 = 1024 B, "
        "x 1 x 16x16 = 1024 B, output 1 x 16x128 = 8192 B, q 2 x 16x128 = 8192 B, "
        "k 2 x 16x128 = 8192 B, v 2 x 16x128 = 8192 B, weights 2 x 16x16 = 1024 B, "
        "product 1 x 16x128 = 8192 B, stored 1 x 16x128 = 4096 B, row_max 2 x 16x1 = 128 B, "
        "row_sum 1 x 16x1 = 64 B, tile_sum 1 x 16x1 = 64 B, rescale 1 x 16x1 = 64 B; "
        "choose smaller tiles or a larger scratchpad"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "w.yaml:1:1: found nothing, expected a mapping of keys"),
        ("- 1\n", "w.yaml:1:1: found a list, expected a mapping of keys"),
        ("{", "w.yaml:2:1: not valid YAML: did not find expected node content"),
        ("a: [1\nb: 2\n", "w.yaml:2:2: not valid YAML: did not find expected ',' or ']'"),
        (b"kind: \xff\xfe", "w.yaml: byte 6 is not text in UTF-8"),
        (
            "a: &a [x]\nb: [*a, *a]\n",
            "w.yaml:1:4: found '&a'; anchors and aliases are not allowed, write the value out",
        ),
        ("[" * 100 + "]" * 100, "w.yaml:1:22: nested deeper than the 20 levels allowed"),
        ("x" * 1_048_577, "w.yaml: found 1048577 bytes, allowed are 1048576"),
        ("kind: gem\n", "w.yaml:1:1: kind: found 'gem', did you mean 'gemm'?; allowed: "
         "'attention', 'gemm', 'grouped_gemm', 'vector', 'layer'"),
        ("name: edge-npu\ncores: 1\n", "w.yaml:1:1: kind: missing; allowed: 'attention', 'gemm', "
         "'grouped_gemm', 'layer', 'vector'"),
    ],
)  # fmt: skip
def test_files_that_are_no_workload(accelsim_command, file, content, message):
    assert refused(accelsim_command(*GEMM, file("w.yaml", content))) == message


def test_all_mistakes_of_a_file_are_told_at_once(accelsim_command, file):
    name = file("w.yaml", "kind: gemm\nname: w\nm: 0\nn: x\nkk: 4\n")
    assert refused(accelsim_command(*GEMM, name)) == (
        "w.yaml:3:1: m: found 0, expected a value greater than 0\n"
        "w.yaml:4:1: n: found 'x', expected a valid integer\n"
        "w.yaml:1:1: k: missing; expected: Columns of A and rows of B; input features of a "
        "linear.\n"
        "w.yaml:5:1: kk: unknown key, did you mean 'k'?; allowed: name, dtype, kind, m, n, k, "
        "tensors"
    )


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


SQUARE = np.ones((8, 8), np.float32)
GOOD_NPZ = npz(a=SQUARE, b=SQUARE)
GOOD_SAFETENSORS = save({"a": SQUARE, "b": SQUARE})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.npz", None, "found no file 't.npz' in {folder}"),
        ("t.npz", GOOD_NPZ[:100], "t.npz: damaged or not an npz file (File is not a zip file)"),
        ("t.npz", npz(a=SQUARE), "t.npz: array 'b' is missing; the file holds a"),
        (
            "t.npz",
            npz(a=np.ones((8, 9)), b=SQUARE),
            "t.npz: array 'a' has shape [8, 9], the workload says [8, 8]",
        ),
        (
            "t.npz",
            npz(a=np.full((8, 8), "x"), b=SQUARE),
            "t.npz: array 'a' has type <U1, allowed: integers and floats",
        ),
        (
            "t.safetensors",
            GOOD_SAFETENSORS[:-1],
            "t.safetensors: damaged or not a safetensors file (array 'b' lies outside the file)",
        ),
        ("t.bin", b"", "t.bin: found the ending '.bin', allowed: .npz, .safetensors"),
    ],
)
def test_tensor_files(accelsim_command, file, tmp_path, name, content, message):
    if content is not None:
        file(name, content)
    source = json.dumps({"source": "file", "path": name})
    workload = file("w.yaml", f"kind: gemm\nname: w\nm: 8\nn: 8\nk: 8\ntensors: {source}\n")
    expected = f"workload 'w': {message.format(folder=tmp_path)}"
    assert refused(accelsim_command(*GEMM, workload)) == expected


def test_a_truncated_gguf(accelsim_command, file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = model_path_of("smollm2", tmp_path)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("token_embd.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.write_bytes(path.read_bytes()[:-100])
    source = "{source: model, layer: 0, linear: q}"
    workload = file("w.yaml", f"kind: gemm\nname: w\nm: 1\nn: 4\nk: 4\ntensors: {source}\n")
    assert refused(accelsim_command(*GEMM, workload)) == (
        f"workload 'w': {path}: damaged or not a GGUF file: "
        "a tensor name at byte 77 has 17 bytes, 15 are left"
    )


def model_path_of(name, cache):
    """Where a fetched model lies, in an empty cache."""
    path = model_folder() / RELEASES[name].file_name
    assert path.is_relative_to(cache)
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*GEMM, "gemm-1042"), None),
        (
            ("run", "-m", "edge-npu", "-w", "gemm-1024", "-k", "falsh"),
            "unknown kernel 'falsh', did you mean 'flash'?; known: centered, dense, "
            "flash, gemm, grouped_gemm, int_flash, mx, outlier_split, pasa, quantized, quest, "
            "requantized, sage, sift, smoothquant, sparse, split_kv, tender, topk, vector, "
            "weight_only, window",
        ),
        (
            ("run", "-m", "edge-nup", "-w", "gemm-1024", "-k", "gemm"),
            "unknown machine 'edge-nup', did you mean 'edge-npu'?; known: "
            + ", ".join(known_names("machine")),
        ),
        (
            ("run", "-m", "edge-npu", "-w", "gemm-1024", "-k", "flash"),
            "kernel flash is for attention problems, but workload gemm-1024 is gemm",
        ),
        (
            ("run", "-m", "absent.yaml", "-w", "gemm-1024", "-k", "gemm"),
            "absent.yaml: no such file",
        ),
        (
            ("run", "-m", ".", "-w", "gemm-1024", "-k", "gemm"),
            ".: found a folder, expected a YAML file",
        ),
        (
            (*GEMM, "gemm-1024", "--trace", "."),
            ".: cannot write the trace: Is a directory",
        ),
        (
            ("compare", *GEMM[1:3], "-w", "gemm-1024", "-k", "gemm", "-o", "/proc/out"),
            "/proc/out: cannot write to the folder: No such file or directory",
        ),
        (
            ("sweep", "absent.yaml", "-o", "out"),
            "absent.yaml: no such file",
        ),
        (
            ("plot", "absent"),
            "absent: no table to plot; expected a folder with compare.csv, results.csv or "
            "infer.csv",
        ),
    ],
)
def test_names_and_places(accelsim_command, words, message):
    # -q, because a note says when a kernel is compiled for the first use.
    done = accelsim_command("-q", *words)
    text = done.stderr.removesuffix("\n")
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    if message is None:
        assert text.startswith("unknown workload 'gemm-1042', did you mean 'gemm-1024'?; known: ")
    else:
        assert text == message


def test_an_output_folder_that_is_a_file(accelsim_command, file):
    name = file("out", "")
    done = accelsim_command("compare", *FLASH[1:5], "-k", "flash", "-o", name)
    assert refused(done) == "out: cannot write to the folder: File exists"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("rnu",), "No such command 'rnu'. Did you mean 'run'?"),
        (("run", "-m", "edge-npu", "-k", "gemm"), "Missing option '--workload' / '-w'."),
        ((*GEMM, "gemm-1024", "--formt", "json"), "No such option: --formt"),
        ((*GEMM, "gemm-1024", "--engine", "fast"), "'fast' is not one of 'compiled',"),
        (("schema", "machin"), "'machin' is not one of 'machine',"),
    ],
)
def test_words_that_no_command_knows(accelsim_command, words, text):
    message = refused(accelsim_command(*words))
    assert text in message


@pytest.mark.parametrize("name", ["a[/b]c", "[red]", "$\\frac$", "<b>", "ä/..", "%s {x}"])
def test_names_may_hold_any_text(accelsim_command, file, tmp_path, name):
    workload = file("w.yaml", f"kind: gemm\nname: {json.dumps(name)}\nm: 8\nn: 8\nk: 8\n")
    done = accelsim_command(*GEMM, workload)
    assert f"gemm: {name} on edge-npu" in done.stdout
    sweep = file(
        "s.yaml",
        f"name: s\nmachine: edge-npu\nworkloads: [{workload}, gemm-1024]\nkernels: [gemm]\n"
        "axes: {tile_m: [16, 32]}\n",
    )
    assert accelsim_command("-q", "sweep", sweep, "-o", "out", "--workers", 1).exit_code == 0
    done = accelsim_command("plot", "out", "--x", "tile_m", "--y", "time_s")
    assert done.exit_code == 0, done.exception


SWEEP = "name: s\nmachine: edge-npu\nworkloads: [gemm-1024]\nkernels: [gemm]\naxes: {key: [1]}\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("key", "tile_q", "unknown kernel parameter 'tile_q', did you mean 'tile_"),
        ("key", "machine.coers", "machine.coers: unknown key, did you mean 'cores'?; allowed: "),
        ("gemm-1024", "gemm-1025", "unknown workload 'gemm-1025', did you mean 'gemm-1024'?"),
        ("key: [1]", "tile_m: [-16, 0]", "tile_m: found -16, expected a value greater than 0"),
        ("key: [1]", "tile_m: [abc]", "tile_m: found 'abc', expected a valid integer"),
    ],
)
def test_mistakes_of_all_points_of_a_sweep(accelsim_command, file, old, new, message):
    """Found when the grid is expanded, while the bar is shown."""
    sweep = file("s.yaml", SWEEP.replace(old, new))
    done = accelsim_command("sweep", sweep, "-o", "out", "--workers", 1)
    assert refused(done).startswith(f"s.yaml: {message}")


def test_a_sweep_into_a_folder_that_cannot_be_made(accelsim_command, file):
    done = accelsim_command("sweep", file("s.yaml", SWEEP), "-o", "/proc/out", "--workers", 1)
    assert refused(done) == (
        "/proc/out/results.sqlite: cannot be written (No such file or directory)"
    )


def test_an_axis_without_values(accelsim_command, file):
    done = accelsim_command("sweep", file("s.yaml", SWEEP.replace("[1]", "[]")), "-o", "out")
    assert refused(done) == "s.yaml:5:8: axes.key: found a list of 0, expected at least 1"
