"""Names that no file can have, wherever a user may give one: one message, never a raw error."""

import os
from pathlib import Path

import numpy as np
import pytest

from accelsim.cli.files import remove_file
from accelsim.cli.options import writable_folder
from accelsim.config.shipped import known_names
from accelsim.errors import AccelsimError, OutputError
from accelsim.kernels.files import find_parameter_file
from accelsim.loading import load_machine, load_workload
from accelsim.plotting.table import find_table, read_table
from accelsim.quantization.calibration_file import load_calibration
from accelsim.report.timeline import Timeline
from accelsim.report.trace import write_trace
from accelsim.sweeps.axis import Scalar
from accelsim.sweeps.contents import load_sweep, read_contents
from accelsim.sweeps.resolve import Resolver
from accelsim.sweeps.store import Store
from accelsim.validation.reference import Row
from accelsim.validation.table import read_rows
from accelsim.workload.archives import find_file, read_arrays, write_arrays
from accelsim.workload.model.language import read_text

LONG = "x" * 300
LOOP = "loop"
TIMELINE = Timeline(
    *np.array([[0, 0, 0, 0, 20, 640]]).T,
    ["load"],
    ["load"],
    1e9,
    *np.array([[0, 0, 128]]).T,
    moved_bytes=np.array([640]),
    cycles=20,
    hbm_bytes_at_end=0,
    peak_hbm_bytes_per_s=1e12,
)
NAMES = {
    "too long": LONG,
    "with a zero byte": "a\0b",
    "no character": "a\ud800b",
    "a loop": LOOP,
    "below a file": "file/below",
    "a folder": "folder",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder with a file, a folder, and a link to itself, each with every ending."""
    monkeypatch.chdir(tmp_path)
    for ending in ("", ".npz", ".csv", ".safetensors", ".yaml"):
        Path(LOOP + ending).symlink_to(LOOP + ending)
        Path("folder" + ending).mkdir()
    Path("file").write_text("")
    return tmp_path


READERS = {
    "machine": (load_machine, ".yaml"),
    "workload": (load_workload, ".yaml"),
    "sweep": (load_sweep, ".yaml"),
    "technology": (lambda name: load_machine("edge-npu", {"technology": f"{name!r}"}), ".yaml"),
    "tensors": (lambda name: find_file(name, Path("folder")), ".npz"),
    "arrays": (lambda name: read_arrays(Path(name), {}), ".npz"),
    "parameter": (lambda name: find_parameter_file(Path(name)), ".npz"),
    "text": (lambda name: read_text(Path(name)), ""),
    "calibration": (lambda name: load_calibration(Path(name)), ".safetensors"),
    "reference": (lambda name: read_rows(Path(name), Row), ".csv"),
    "table": (read_table, ".csv"),
    "folder of tables": (find_table, ""),
}
WRITERS = {
    "trace": (lambda name: write_trace(TIMELINE, name), ""),
    "arrays": (lambda name: write_arrays(Path(name), {}), ".npz"),
}
FOLDERS = {
    "out": lambda name: writable_folder(Path(name)),
    "store": lambda name: Store(Path(name)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_cannot_be_read(reader, name):
    read, ending = READERS[reader]
    with pytest.raises(AccelsimError) as refused:
        read(NAMES[name] + ending)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_cannot_be_written(writer, name, folder):
    write, ending = WRITERS[writer]
    before = sorted(os.listdir(folder))
    if name == "a loop" and writer == "trace":
        pytest.skip("the link is replaced")
    with pytest.raises(OutputError):
        write(NAMES[name] + ending)
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("name", [name for name in NAMES if name != "a folder"])
@pytest.mark.parametrize("writer", FOLDERS)
def test_a_folder_that_cannot_be_written(writer, name):
    with pytest.raises(OutputError):
        FOLDERS[writer](NAMES[name])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: write_trace(TIMELINE, LONG),
            f"{LONG}: cannot write the trace: File name too long",
        ),
        (
            lambda: read_text(Path("a\0b")),
            "a\0b: cannot be read as UTF-8 text (embedded null byte)",
        ),
        (
            lambda: load_calibration(Path(f"{LONG}.safetensors")),
            f"{LONG}.safetensors: cannot be read (File name too long)",
        ),
        (
            lambda: writable_folder(Path("a\0b")),
            "a\0b: cannot write to the folder: embedded null byte",
        ),
        (
            lambda: Store(Path(LONG)),
            f"{LONG}/results.sqlite: cannot be written (File name too long)",
        ),
        (lambda: remove_file(Path("folder")), "folder: cannot remove the file: Is a directory"),
    ],
)
def test_messages(act, message):
    with pytest.raises(AccelsimError) as refused:
        act()
    assert str(refused.value) == message


def test_the_longest_name_of_a_file_can_be_that_of_a_trace():
    write_trace(TIMELINE, "x" * 255)
    assert Path("x" * 255).is_file()


def test_a_sweep_finds_no_file_of_a_name_that_is_too_long(folder):
    asked: list[tuple[str, str, Scalar]] = []

    def read(kind: str, name: str, settings: object) -> dict[str, object]:
        asked.append((kind, name, ""))
        return {}

    Resolver(read, "1", folder).contents("machine", LONG)
    assert asked == [("machine", LONG, "")]


def test_a_workload_with_tensors_of_a_name_that_is_too_long(folder):
    (folder / "w.yaml").write_text(
        f"{{kind: gemm, name: w, m: 1, n: 1, k: 1, tensors: {{source: file, path: {LONG}.npz}}}}"
    )
    contents = read_contents("workload", str(folder / "w.yaml"), {})
    assert contents["file_digests"] == [f"found no file '{LONG}.npz' in {folder}"]


def test_an_unknown_technology_is_told_with_its_place(folder):
    (folder / "m.yaml").write_text("extends: edge-npu\nname: m\ntechnology: 6nm\n")
    with pytest.raises(AccelsimError) as refused:
        load_machine("m.yaml")
    known = ", ".join(known_names("technology"))
    assert str(refused.value) == (
        f"m.yaml:3:1: technology: unknown technology '6nm', did you mean '7nm'?; known: {known}"
    )


def test_a_memory_without_costs_is_told_with_its_place(folder):
    (folder / "m.yaml").write_text("extends: edge-npu\nname: m\nhbm: {standard: hbm9}\n")
    with pytest.raises(AccelsimError) as refused:
        load_machine("m.yaml")
    assert str(refused.value).startswith(
        "m.yaml:3:7: hbm.standard: technology '28nm': unknown memory standard 'hbm9', "
        "did you mean 'hbm"
    )
    with pytest.raises(AccelsimError) as refused:
        load_machine("edge-npu", {"hbm.standard": "hbm9"})
    assert str(refused.value).startswith("--set hbm.standard: technology '28nm': unknown memory")
