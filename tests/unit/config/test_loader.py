"""Files to specs: every mistake at once, each with place, key, what was found, what is allowed."""

import os
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt, TypeAdapter, model_validator

from accelsim.config.document import MAX_BYTES
from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import known_names
from accelsim.config.spec import Bytes, Spec
from accelsim.errors import ConfigError, ShortageError, UnknownNameError
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format


class Disk(Spec):
    """A branch with a quantity."""

    kind: Literal["disk"]
    """Which branch."""
    size: Bytes
    """How much it holds, in bytes."""


class Net(Spec):
    """A branch with a number."""

    kind: Literal["net"]
    """Which branch."""
    hops: PositiveInt
    """Switches on the way."""

    @model_validator(mode="after")
    def _is_odd(self) -> "Net":
        if self.hops % 2 == 0:
            raise ValueError("found an even number of hops, allowed are odd ones")
        return self


Branch = Annotated[Disk | Net, Field(discriminator="kind")]


class Device(Spec):
    """A spec with one field of every shape."""

    name: str = Field(min_length=1)
    """What it is called."""
    cores: PositiveInt
    """How many."""
    rates: dict[Format, float] = Field(default_factory=dict)
    """Speed by format."""
    share: float = 1.0
    """Part of the whole."""
    is_fast: bool = False
    """Whether it is fast."""
    parts: tuple[Branch, ...] = ()
    """What it consists of."""
    limit: int | Literal["auto"] = "auto"
    """A number, or the word."""
    boot: Branch | None = None
    """What it starts from."""
    swap: Disk | bool = False
    """Where memory goes, or whether it may."""
    route: tuple[Branch, ...] | bool = False
    """Where packets go, or whether they may."""


def mistakes(text: str, tmp_path: Path, model=Device, overrides=None) -> list[str]:
    file = tmp_path / "d.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_spec(model, file, kind="machine", overrides=overrides, label="--set device.")
    return str(refusal.value).replace(f"{tmp_path}/", "").splitlines()


def test_a_file_becomes_a_spec(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("name: x\ncores: 2\nrates: {fp16: 1}\nparts: [{kind: disk, size: 1 KiB}]\n")
    device = load_spec(Device, file, kind="machine")
    assert device.rates == {Format.FP16: 1.0}
    assert device.parts == (Disk(kind="disk", size=1024),)


def test_a_union_is_loaded_through_its_adapter(tmp_path):
    file = tmp_path / "net.yaml"
    file.write_text("kind: net\nhops: 3\n")
    adapter: TypeAdapter[Disk | Net] = TypeAdapter(Branch)
    assert load_spec(adapter, file, kind="workload") == Net(kind="net", hops=3)


def test_every_mistake_of_a_file_is_reported_at_once(tmp_path):
    text = """\
nme: x
cores: 0
rates: {fp61: 1, fp16: fast}
share: .nan
is_fast: yes
parts:
  - {kind: disk, size: 4096}
  - {kind: disc, size: 4 KiB}
  - {kind: net, hops: 2}
  - {hops: 3}
  - 7
  - {kind: net, hops: 1, hops: 3, size: 4 KiB}
"""
    assert mistakes(text, tmp_path) == [
        "d.yaml:12:26: parts[5].hops: the key appears twice, first at d.yaml:12:17",
        "d.yaml:1:1: name: missing; expected: What it is called.",
        "d.yaml:2:1: cores: found 0, expected a value greater than 0",
        "d.yaml:3:9: rates.fp61: found 'fp61', did you mean 'fp16'?; allowed: 'fp32', 'bf16', "
        "'fp16', 'fp8_e4m3', 'fp8_e5m2', 'int32', 'int8', 'int4', 'fp6_e3m2', 'fp6_e2m3', "
        "'fp4_e2m1' or 'e8m0'",
        "d.yaml:3:18: rates.fp16: found 'fast', expected a valid number",
        "d.yaml:4:1: share: found nan, expected a finite number",
        "d.yaml:5:1: is_fast: found 'yes', expected true or false",
        "d.yaml:7:18: parts[0].size: found '4096', a number without a unit; allowed units: "
        "B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB",
        "d.yaml:8:6: parts[1].kind: found 'disc', did you mean 'disk'?; allowed: 'disk', 'net'",
        "d.yaml:9:5: parts[2]: found an even number of hops, allowed are odd ones",
        "d.yaml:10:5: parts[3].kind: missing; allowed: 'disk', 'net'",
        "d.yaml:11:5: parts[4]: found 7, expected a mapping",
        "d.yaml:12:35: parts[5].size: unknown key; allowed: kind, hops",
        "d.yaml:1:1: nme: unknown key, did you mean 'name'?; allowed: name, cores, rates, share, "
        "is_fast, parts, limit, boot, swap, route",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cores: true", "found true, expected a valid integer"),
        ("cores: '16'", "found '16', expected a valid integer"),
        ("cores: 1.5", "found 1.5, expected a valid integer"),
        ("cores:", "found nothing, expected a valid integer"),
        ("cores: [1]", "found a list, expected a valid integer"),
        ("cores: {a: 1}", "found a mapping, expected a valid integer"),
        ("cores: " + 70 * "a", f"found '{59 * 'a'}..., expected a valid integer"),
    ],
)
def test_a_number_is_nothing_but_a_number(line, message, tmp_path):
    assert mistakes(f"name: x\n{line}\n", tmp_path) == [f"d.yaml:2:1: cores: {message}"]


def test_a_section_must_be_a_mapping_and_a_name_must_not_be_empty(tmp_path):
    assert mistakes("name: ''\ncores: 1\nrates: 3\nparts: 4\n", tmp_path) == [
        "d.yaml:1:1: name: found ''; string should have at least 1 character",
        "d.yaml:3:1: rates: found 3, expected a mapping",
        "d.yaml:4:1: parts: found 4, expected a list",
    ]


def test_the_branches_of_a_plain_union_are_one_mistake(tmp_path):
    assert mistakes("name: x\ncores: 1\nlimit: atuo\n", tmp_path) == [
        "d.yaml:3:1: limit: found 'atuo', expected a valid integer; or: "
        "found 'atuo', did you mean 'auto'?; allowed: 'auto'"
    ]


def test_overrides_are_checked_like_the_file_and_name_themselves(tmp_path):
    overrides = {"croes": "3", "cores": "-4", "parts": "[{kind: net, hops: x}]", "rate.fp16": 2}
    assert mistakes("name: x\ncores: 1\n", tmp_path, overrides=overrides) == [
        "--set device.cores: found -4, expected a value greater than 0",
        "--set device.parts[0].hops: found 'x', expected a valid integer",
        "--set device.croes: unknown key, did you mean 'cores'?; allowed: name, cores, rates, "
        "share, is_fast, parts, limit, boot, swap, route",
        "--set device.rate: unknown key, did you mean 'rates'?; allowed: name, cores, rates, "
        "share, is_fast, parts, limit, boot, swap, route",
    ]


def test_a_good_override_mends_a_bad_file(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("name: x\ncores: 0\n")
    assert load_spec(Device, file, kind="machine", overrides={"cores": "3"}).cores == 3


def test_a_repeated_key_alone_is_refused(tmp_path):
    assert mistakes("name: x\ncores: 1\ncores: 1\n", tmp_path) == [
        "d.yaml:3:1: cores: the key appears twice, first at d.yaml:2:1"
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "nothing"),
        ("# only a comment\n", "nothing"),
        ("[1]", "a list"),
        ("hello", "'hello'"),
        ("42", "42"),
    ],
)
def test_a_file_is_a_mapping(text, found, tmp_path):
    assert mistakes(text, tmp_path) == [f"d.yaml:1:1: found {found}, expected a mapping of keys"]


def refusal_of(source) -> str:
    with pytest.raises(ConfigError) as refusal:
        read_document(source, kind="machine")
    return str(refusal.value)


def test_a_missing_file_is_named():
    assert refusal_of("no/such.yaml") == "no/such.yaml: no such file"
    assert refusal_of("such.yaml") == "such.yaml: no such file"
    assert refusal_of(Path("such")) == "such: no such file"


def test_a_folder_and_a_device_are_not_files(tmp_path):
    assert refusal_of(tmp_path) == f"{tmp_path}: found a folder, expected a YAML file"
    os.mkfifo(tmp_path / "pipe.yaml")
    expected = f"{tmp_path}/pipe.yaml: found a device or pipe, expected a YAML file"
    assert refusal_of(tmp_path / "pipe.yaml") == expected


def test_binary_and_huge_files_are_refused(tmp_path):
    file = tmp_path / "b.yaml"
    file.write_bytes(b"PNG\x89\xff")
    assert refusal_of(file) == f"{file}: byte 3 is not text in UTF-8"
    file.write_bytes(b"a" * (MAX_BYTES + 1))
    assert refusal_of(file) == f"{file}: found 1048577 bytes, allowed are 1048576"


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "secret.yaml"
    file.write_text("a: 1\n")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ShortageError) as refusal:
        read_document(file, kind="machine")
    assert str(refusal.value) == f"{file}: cannot be read: Permission denied"


def test_a_memory_file_that_cannot_be_read_is_no_mistake_of_the_machine(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ShortageError("hbm2.yaml: cannot be read: Too many open files")

    machine = tmp_path / "machine.yaml"
    machine.write_text("extends: ascend-910b-banked\n")
    monkeypatch.setattr("accelsim.hardware.hbm.load_spec", refuse)
    with pytest.raises(ShortageError) as refusal:
        load_machine(machine)
    assert str(refusal.value) == "hbm2.yaml: cannot be read: Too many open files"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError) as refusal:
        load_spec(MachineSpec, "ascend-910c", kind="machine")
    assert str(refusal.value) == (
        "unknown machine 'ascend-910c', did you mean 'ascend-910b'?; known: "
        + ", ".join(known_names("machine"))
    )


def test_a_file_is_parsed_once_until_it_changes(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("name: x\n")
    first = read_document(file, kind="machine")
    assert read_document(file, kind="machine") is first
    file.write_text("name: longer\n")
    assert read_document(file, kind="machine").value == {"name": "longer"}


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: x\ncores: 1\n")
    assert load_spec(Device, file, kind="machine").name == "x"


def test_mistakes_inside_an_optional_section_are_found(tmp_path):
    text = "name: x\ncores: 1\nboot: {hops: 3}\n"
    assert mistakes(text, tmp_path) == ["d.yaml:3:1: boot.kind: missing; allowed: 'disk', 'net'"]
    text = "name: x\ncores: 1\nboot: {kind: disk, sise: 4 KiB}\n"
    assert mistakes(text, tmp_path) == [
        "d.yaml:3:1: boot.size: missing; expected: How much it holds, in bytes.",
        "d.yaml:3:20: boot.sise: unknown key, did you mean 'size'?; allowed: kind, size",
    ]


def test_a_union_without_a_tag_still_names_the_unknown_key(tmp_path):
    text = "name: x\ncores: 1\nswap: {kind: disk, size: 4 KiB, speed: 3}\n"
    assert mistakes(text, tmp_path) == [
        "d.yaml:3:33: swap.speed: unknown key",
        "d.yaml:3:1: swap: found a mapping, expected true or false",
    ]


def test_a_missing_tag_inside_a_union_without_a_tag_is_named(tmp_path):
    text = "name: x\ncores: 1\nroute: [{hops: 3}]\n"
    assert mistakes(text, tmp_path) == [
        "d.yaml:3:9: route[0].kind: missing",
        "d.yaml:3:1: route: found a list, expected true or false",
    ]


def test_a_union_with_a_default_kind_names_the_keys_of_the_kind(tmp_path):
    def cube(text):
        return load_spec(MachineSpec, "edge-npu", kind="machine", overrides={"cube": text}).cube

    sizes = "tile_m: 2, tile_n: 3, tile_k: 4"
    common = "rates: {fp16: 1}, pipeline_depth_cycles: 0, operand_buffer: 4 KiB"
    assert cube(f"{{{sizes}, {common}}}") == cube(f"{{kind: cube, {sizes}, {common}}}")
    with pytest.raises(ConfigError) as refusal:
        cube(f"{{kind: systolic, rows: 2, cols: 2, dataflow: output_stationery, {common}}}")
    assert refusal.value.mistakes == [
        "--set cube.dataflow: found 'output_stationery', did you mean 'output_stationary'?; "
        "allowed: 'output_stationary', 'weight_stationary' or 'input_stationary'"
    ]


def _machine_on(memory: Path, tmp_path: Path) -> Path:
    machine = tmp_path / "machine.yaml"
    machine.write_text(f"extends: ascend-910b-banked\nhbm: {{standard: {memory}}}\n")
    return machine


def test_a_spec_is_shared_until_a_file_behind_it_changes(tmp_path):
    """A machine is also what the file of its memory says, and what that one extends."""
    base, memory = tmp_path / "base.yaml", tmp_path / "memory.yaml"
    base.write_text("extends: hbm2e\nenergy: {standby: 100 mW}\n")
    memory.write_text(f"extends: {base}\n")
    machine = _machine_on(memory, tmp_path)
    before = load_machine(machine)
    assert load_machine(machine) is before
    base.write_text("extends: hbm2e\nenergy: {standby: 2000 mW}\n")
    after = load_machine(machine)
    assert (before.hbm.dram.energy.standby, after.hbm.dram.energy.standby) == (0.1, 2.0)
    assert load_machine(machine) is after


def test_settings_of_another_type_or_order_are_another_spec(tmp_path):
    file = tmp_path / "drive.yaml"
    file.write_text("kind: net\nhops: 3\n")

    def load(**settings):
        return load_spec(Net, file, kind="machine", overrides=settings)

    assert load(hops=5) is load(hops=5)
    assert load(hops=5) is not load(hops=7)
    with pytest.raises(ConfigError, match="hops"):
        load(hops=5.0)
    with pytest.raises(ConfigError, match="hops"):
        load(hops=True)


def test_a_relative_path_is_another_file_in_another_folder(tmp_path, monkeypatch):
    specs = []
    for hops in (3, 5):
        folder = tmp_path / str(hops)
        folder.mkdir()
        (folder / "net.yaml").write_text(f"kind: net\nhops: {hops}\n")
        monkeypatch.chdir(folder)
        specs.append(load_spec(Net, "net.yaml", kind="machine"))
    assert [spec.hops for spec in specs] == [3, 5]
