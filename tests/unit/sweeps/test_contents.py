"""Contents of real documents, and sweep files with mistakes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim.config.shipped import shipped_folder
from accelsim.config.spec import Spec
from accelsim.errors import AccelsimError, ConfigError, ShortageError
from accelsim.kernels import registry
from accelsim.kernels.attention.flash.flash import Flash
from accelsim.loading import load_machine
from accelsim.runtime.sources import class_digest
from accelsim.sweeps.contents import load_sweep, read_contents
from accelsim.sweeps.points import expand
from accelsim.sweeps.resolve import digest
from accelsim.sweeps.run import sweep
from accelsim.sweeps.spec import SweepSpec
from accelsim.workload.model.language import default_text
from accelsim.workload.model.release import RELEASES, model_folder

SWEEP = """\
name: tiles
machine: edge-npu
workloads: [attention-2048]
kernels: [dense]
axes:
  tile_q: [64, 128]
  machine.scratchpad.capacity: {from: 256 KiB, to: 1 MiB, points: 3}
constraints:
  - tile_q * 4 KiB
"""


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    np.savez(tmp_path / "ab.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    path = tmp_path / "product.yaml"
    path.write_text(
        "{kind: layer, name: x, problems: [{kind: gemm, name: y, m: 2, n: 2, k: 2, "
        "tensors: {source: file, path: ab.npz}}]}"
    )
    return path


def test_settings_are_part_of_the_contents() -> None:
    contents = read_contents("machine", "edge-npu", {"scratchpad.capacity": "64 KiB"})
    assert contents["scratchpad"]["capacity"] == 64 * 1024
    assert read_contents("technology", contents["technology"], {})["name"]
    assert read_contents("workload", "attention-2048", {"kv_len": 512})["kv_len"] == 512
    assert read_contents("kernel", "dense", {"tile_q": 32})["tile_q"] == 32


def test_the_bytes_of_tensor_files_are_part_of_the_contents(workload: Path) -> None:
    contents = read_contents("workload", str(workload), {})
    data = (workload.parent / "ab.npz").read_bytes()
    assert contents["file_digests"] == [hashlib.sha256(data).hexdigest()]


@pytest.mark.parametrize(
    ("kernel", "parameter", "others"),
    [
        ("tender", "calibration", {}),
        ("sparse", "path", {"mask": "file"}),
        ("sparse", "weights", {"mask": "gate"}),
    ],
)
def test_the_bytes_of_the_file_of_a_parameter_are_part_of_the_contents(
    kernel: str, parameter: str, others: dict[str, str], tmp_path: Path
) -> None:
    """Points are not taken for finished after their calibration or mask was made anew."""
    file = tmp_path / "made.safetensors"
    found = []
    for data in (b"old", b"new"):
        file.write_bytes(data)
        contents = read_contents("kernel", kernel, {parameter: str(file), **others})
        found.append(contents["file_digests"])
    assert found == [[hashlib.sha256(data).hexdigest()] for data in (b"old", b"new")]
    assert "file_digests" not in read_contents("kernel", kernel, {})


def test_the_file_of_a_parameter_is_found_where_the_kernel_finds_it() -> None:
    """Beside the shipped workloads, from whatever directory the sweep runs."""
    shipped = "data/smollm2_masks.safetensors"
    data = (shipped_folder("workload") / shipped).read_bytes()
    contents = read_contents("kernel", "sparse", {"mask": "gate", "weights": shipped})
    assert contents["file_digests"] == [hashlib.sha256(data).hexdigest()]


def test_a_missing_tensor_file_is_left_to_the_run(workload: Path) -> None:
    (workload.parent / "ab.npz").unlink()
    (found,) = read_contents("workload", str(workload), {})["file_digests"]
    assert found.startswith("found no file 'ab.npz' in ")


@pytest.mark.parametrize(
    ("kind", "name", "settings", "message"),
    [
        ("machine", "edge-npu", {"coers": 2}, "machine.coers: unknown key, did you mean 'cores'?"),
        ("workload", "attention-2048", {"kv_len": 0}, "workload.kv_len: found 0, expected a value"),
        ("kernel", "dense", {"tile_q": -1}, "tile_q: found -1, expected a value greater than 0"),
        ("kernel", "desne", {}, "unknown kernel 'desne', did you mean 'dense'?"),
    ],
)
def test_settings_that_are_not_allowed(
    kind: str, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(AccelsimError) as caught:
        read_contents(kind, name, settings)
    assert str(caught.value).startswith(message)


def test_every_mistake_of_a_sweep_file_is_located(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP.replace("kernels:", "kernel:").replace("256 KiB", "256 KB"))
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert caught.value.mistakes == [
        f"{path}:7:33: axes.machine.scratchpad.capacity.from: found '256 KB', expected a number "
        "or a quantity such as '64 KiB'",
        f"{path}:9:5: constraints[0]: cannot read 'tile_q * 4 KiB'; allowed: names such as tile_q "
        "or machine.cube.tile_m, numbers, quoted quantities and words, + - * / // %, comparisons, "
        "and, or, not",
        f"{path}:4:1: kernel: unknown key, did you mean 'kernels'?; allowed: name, description, "
        "machine, workloads, kernels, sample, axes, zip, settings, constraints",
    ]


def test_a_sweep_over_shipped_files(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP.replace("tile_q * 4 KiB", "machine.scratchpad.capacity > '256 KiB'"))
    grid = expand(load_sweep(path), read_contents, "1.0", tmp_path)
    assert [list(point.columns.values())[3:5] for point in grid.points] == [
        *([64, 2**19], [64, 2**20], [128, 2**19], [128, 2**20])
    ]
    assert grid.num_excluded == 2
    assert grid.free_keys == ()


def test_a_mask_that_changed_is_run_again(tmp_path: Path) -> None:
    """The point of the other mask, which did not change, is reused."""
    masks = tmp_path / "kept.npz", tmp_path / "changed.npz"
    for path in masks:
        np.savez(path, blocks=np.ones((1, 4, 4)))
    spec = SweepSpec(
        name="masks",
        machine="edge-npu",
        workloads=("attention-uniform-small",),
        kernels=("sparse(mask=file, block=64)",),
        axes={"path": [str(path) for path in masks]},
    )
    folder = tmp_path / "out"
    assert [sweep(spec, folder, workers=1).num_run for _ in range(2)] == [2, 0]
    np.savez(masks[1], blocks=np.eye(4)[None])
    again = sweep(spec, folder, workers=1)
    assert (again.num_run, again.num_by_status) == (1, {"ok": 2})
    found = sorted((row["path"], row["statistics.density"]) for row in again.rows)
    assert found == [(str(masks[1]), 0.25), (str(masks[0]), 1.0)]
    assert again.num_set_aside == 1


def test_a_machine_is_all_that_its_file_extends(tmp_path: Path) -> None:
    """A changed base is another machine, so that points with it are run again."""
    base, own = tmp_path / "base.yaml", tmp_path / "own.yaml"
    own.write_text("extends: base.yaml\nname: own\n")
    contents = []
    for cores in (2, 13):
        base.write_text(f"extends: edge-npu\ncores: {cores}\n")
        contents.append(read_contents("machine", str(own), {}))
    assert [each["cores"] for each in contents] == [2, 13]


def test_a_machine_is_its_memory_standard_as_it_is_now(tmp_path: Path) -> None:
    memory, own = tmp_path / "mine.yaml", tmp_path / "own.yaml"
    name = load_machine("ascend-910b-banked").hbm.standard
    own.write_text(f"extends: ascend-910b-banked\nname: own\nhbm: {{standard: {memory}}}\n")
    digests = []
    for text in ("first", "second"):
        memory.write_text(f"extends: {name}\ndescription: {text}\n")
        digests.append(digest(read_contents("machine", str(own), {})))
    assert digests[0] != digests[1]


class OwnParameters(Spec):
    """Files in every place where a parameter can name one."""

    table: str | None = None
    paths: tuple[Path, ...] = ()
    word: str = "plain"


class Own(Flash):
    name = "own"
    parameters = OwnParameters


@pytest.fixture
def own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KERNELS", dict(registry._KERNELS))
    registry.register(Own)


@pytest.mark.parametrize("as_parameter", [{"table": "{}"}, {"paths": ["{}"]}])
def test_files_are_found_wherever_a_parameter_names_them(
    own_kernel: None, tmp_path: Path, as_parameter: dict[str, Any]
) -> None:
    file = tmp_path / "table.txt"
    ((key, text),) = as_parameter.items()
    value = str(file) if isinstance(text, str) else [str(file)]
    found = []
    for data in (b"old", b"new"):
        file.write_bytes(data)
        found.append(read_contents("kernel", "own", {key: value})["file_digests"])
    assert found == [[hashlib.sha256(data).hexdigest()] for data in (b"old", b"new")]


def test_a_kernel_from_outside_has_the_digest_of_its_source(own_kernel: None) -> None:
    assert read_contents("kernel", "own", {})["source_digest"] == class_digest(Own) != ""
    assert "source_digest" not in read_contents("kernel", "flash", {})


def write_source(folder: Path, **more: Any) -> Path:
    source = {"source": "model", "layer": 0, "linear": "q", **more}
    path = folder / "linear.yaml"
    path.write_text(
        json.dumps(
            {"kind": "gemm", "name": "q", "m": 4, "n": 576, "k": 576}
            | {"dtype": "fp16", "tensors": source}
        )
    )
    return path


def test_the_text_that_a_model_reads_is_part_of_the_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text, found = tmp_path / "text.txt", []
    for words in ("one", "two", None):
        text.write_text(words or "three")
        path = write_source(tmp_path, text=words and "text.txt")
        model, digest_of_text = read_contents("workload", str(path), {})["file_digests"]
        assert model.startswith("model 'smollm2' is not at ")
        found.append(digest_of_text)
    assert found[:2] == [hashlib.sha256(words).hexdigest() for words in (b"one", b"two")]
    assert found[2] == hashlib.sha256(default_text().encode()).hexdigest()


def test_the_model_itself_is_part_of_the_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = model_folder() / RELEASES["smollm2"].file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    found = read_contents("workload", str(write_source(tmp_path)), {})["file_digests"]
    assert found[0] == hashlib.sha256(b"weights").hexdigest()


def test_a_file_that_is_there_and_cannot_be_read(
    workload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    read_contents("workload", str(workload), {})
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ShortageError) as caught:
        read_contents("workload", str(workload), {})
    file = workload.parent / "ab.npz"
    assert str(caught.value) == f"{file}: cannot be read (Permission denied)"


@pytest.mark.parametrize(
    ("axes", "free"),
    [
        ({"machine.hbm.bandwidth": ("10 GB/s", "20 GB/s")}, ("machine.hbm.bandwidth",)),
        ({"machine.hbm.bandwidth": ("10 GB/s", "200 GB/s")}, ()),
        ({"machine.clock": ("1 GHz", "2 GHz"), "tile_q": (32, 64)}, ("machine.clock",)),
        ({"machine.cores": (1, 2)}, ()),
        ({"machine.placement": ("greedy", "static")}, ()),
        ({"machine.hbm.bandwidth": ("100 GB/s", "0.1 TB/s")}, ()),
    ],
)
def test_fields_of_a_machine_that_cost_no_area(
    axes: dict[str, tuple[Any, ...]], free: tuple[str, ...]
) -> None:
    spec = SweepSpec.model_validate(
        {
            "name": "free",
            "machine": "edge-npu",
            "workloads": ("attention-2048",),
            "kernels": ("flash",),
            "axes": axes,
        }
    )
    assert expand(spec, read_contents, "1.0").free_keys == free
    zipped = {"axes": {}, "zip": ({**axes, "machine.scratchpad.capacity": ("256 KiB", "1 MiB")},)}
    if len(axes) == 1:
        other = SweepSpec.model_validate({**spec.model_dump(), **zipped})
        assert expand(other, read_contents, "1.0").free_keys == free


@pytest.mark.parametrize("sample", ["0", "half", "1.5"])
def test_a_sample_that_is_none_is_a_mistake_of_the_file(tmp_path: Path, sample: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{SWEEP}sample: {sample}\n")
    with pytest.raises(ConfigError) as caught:
        load_sweep(path)
    assert any("sample: found" in each and "auto, never" in each for each in caught.value.mistakes)
