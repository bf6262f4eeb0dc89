"""A machine that its technology has no costs for is refused when it is loaded, at its own keys."""

import pytest

from accelsim.bench import Bench
from accelsim.errors import AccelsimError, ConfigError
from accelsim.loading import load_machine
from accelsim.simulation import record, simulate

L2 = "l2: {{capacity: {}, line: 512 B, sector: 512 B, ways: 2, slices: {}, bandwidth: 5 TB/s, "
L2 += "latency: 100 ns}}"


@pytest.fixture
def machine_file(tmp_path):
    """Return what writes a file of a machine that extends another by one line, the third."""

    def write(line, base="ascend-910b"):
        path = tmp_path / "m.yaml"
        path.write_text(f"extends: {base}\nname: m\n{line}\n")
        return path

    return write


def refusal_of(path):
    with pytest.raises(AccelsimError) as refusal:
        load_machine(path)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("capacity", "slices", "text"),
    [
        (
            "64 KiB",
            64,
            "found 65536 B with l2.slices = 64, which are slices of 1024 B, {}; "
            "give l2.slices = 16 or fewer, or l2.capacity = 262144 B or more",
        ),
        (
            "2 KiB",
            2,
            "found 2048 B with l2.slices = 2, which are slices of 1024 B, {}; "
            "give l2.capacity = 8192 B or more",
        ),
        (
            "1 GiB",
            2,
            "found 1073741824 B with l2.slices = 2, which are slices of 536870912 B, {}; "
            "give l2.slices = 6 or more, or l2.capacity = 402653184 B or less",
        ),
    ],
)
def test_slices_of_an_l2_without_costs(machine_file, capacity, slices, text):
    path = machine_file(L2.format(capacity, slices))
    allowed = "allowed: slices of 4096 to 201326592 B, the memories of technology '7nm'"
    assert refusal_of(path) == f"{path}:3:6: l2.capacity: {text.format(allowed)}"


SRAM = "its table goes from 4096 to 201326592 bytes"
FORMATS = "known: bf16, fp16, fp32"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "accumulator: {capacity: 1 KiB}",
            ":3:15: accumulator.capacity: technology '7nm' has no accumulator of 1024 bytes: "
            + SRAM,
        ),
        (
            "cube: {operand_buffer: 1 KiB}",
            ":3:8: cube.operand_buffer: technology '7nm' has no operand_buffer of 1024 bytes: "
            + SRAM,
        ),
        (
            "vector: {lanes: {int8: 64}}",
            ":3:18: vector.lanes.int8: technology '7nm': unknown vector format 'int8'; " + FORMATS,
        ),
        (
            "hbm: {standard: hbm9}",
            ":3:7: hbm.standard: technology '7nm': unknown memory standard 'hbm9', did you mean "
            "'hbm3'?; known: ddr4, hbm2, hbm2e, hbm3, lpddr5",
        ),
        (
            "technology: 7mn",
            ":3:1: technology: unknown technology '7mn', did you mean '7nm'?; known: 28nm, 4n, 7nm",
        ),
    ],
)
def test_parts_without_costs(machine_file, line, text):
    path = machine_file(line)
    assert refusal_of(path) == f"{path}{text}"


def test_an_integer_array_that_the_technology_does_not_have(machine_file):
    array = "int_mac: {rows: 4, cols: 4, pipeline_depth_cycles: 1, index_buffer: 4 KiB}"
    path = machine_file(array, base="h200-sxm")
    assert refusal_of(path) == (
        f"{path}:3:1: int_mac: technology '4n' has no int_mac, which the machine needs"
    )


def test_all_that_is_missing_is_told_at_once(machine_file):
    path = machine_file("scratchpad: {capacity: 1 KiB}\naccumulator: {capacity: 1 KiB}")
    assert [line.split(": ")[1] for line in refusal_of(path).splitlines()] == [
        "scratchpad.capacity",
        "accumulator.capacity",
    ]


def test_a_machine_made_in_python_is_refused_before_the_kernel_is_recorded():
    machine = load_machine("ascend-910b")
    small = machine.scratchpad.model_copy(update={"capacity": 1024})
    machine = machine.model_copy(update={"scratchpad": small})
    with pytest.raises(ConfigError) as refusal:
        simulate(machine, "attention-2048", "flash")
    assert str(refusal.value) == (
        "machine ascend-910b: scratchpad.capacity: technology '7nm' has no scratchpad of 1024 "
        f"bytes: {SRAM}"
    )


def test_a_program_needs_no_costs(machine_file):
    path = machine_file(L2.format("64 KiB", 64))
    assert record(path, "gemm-1024", "gemm").num_ops
    assert Bench.prepare(path, "gemm", needs_costs=False).machine.l2.slices == 64
    with pytest.raises(ConfigError):
        Bench.prepare(path, "gemm")


def test_an_override_is_named_like_a_key():
    with pytest.raises(ConfigError) as refusal:
        load_machine("ascend-910b", {"technology": "6nm"})
    assert str(refusal.value).startswith("--set technology: unknown technology '6nm'")
