"""Machines with round numbers and programs written word by word: what engine tests start from.

A vector op over n elements occupies its unit for n cycles and a matrix product for m n k, unless a
test says otherwise; ports are too wide to matter. Rates that are powers of two are exact.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.units.vector import VectorCosts
from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    ACCUMULATOR_SHIFT,
    BITS_B_SHIFT,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SHIFTS_SHIFT,
    SLOT_BITS,
    TENSOR_SHIFT,
    WORDS,
    Op,
)
from accelsim.program.program import BufferInfo, Program, TensorInfo

CLOCK_HZ = 2**30
WIDE_BYTES_PER_CYCLE = 2**20
SLOTS = 15
Words = tuple[int, ...]


def machine_of(
    *,
    cores: int = 1,
    items_in_flight: int = 2,
    placement: str = "greedy",
    tile: tuple[int, int, int] = (1, 1, 1),
    cube_rates: dict[str, float] | None = None,
    cube_depth_cycles: int = 0,
    systolic: dict[str, Any] | None = None,
    int_mac: tuple[int, int, int] = (64, 64, 0),
    lanes: dict[str, int] | None = None,
    vector_depth_cycles: int = 0,
    issue_cycles: int = 0,
    costs: dict[str, float] | None = None,
    scratchpad_bytes: int = 2**20,
    scratchpad_bytes_per_cycle: float = WIDE_BYTES_PER_CYCLE,
    accumulator_bytes: int = 2**20,
    accumulator_bytes_per_cycle: float = WIDE_BYTES_PER_CYCLE,
    load_bytes_per_cycle: float = WIDE_BYTES_PER_CYCLE,
    load_in_flight: int = 2,
    store_bytes_per_cycle: float = WIDE_BYTES_PER_CYCLE,
    store_in_flight: int = 2,
    hbm_bytes_per_cycle: float = 1,
    channels: int = 1,
    latency_cycles: int = 1,
    launch_cycles: int = 0,
    cube_issue_cycles: int = 0,
    cube_setup_cycles: int = 0,
    interleave_bytes: int = 2**20,
    l2: dict[str, Any] | None = None,
) -> MachineSpec:
    """Return a machine; its clock is a power of two, so that rates per cycle are exact.

    `systolic` (rows, cols, dataflow, overlap_folds) puts an array in the place of the cube;
    `int_mac` gives rows, columns and pipeline depth of the integer array.
    """
    unit_costs: dict[str, float] = dict.fromkeys(VectorCosts.model_fields, 1)
    array = {"kind": "systolic", **systolic} if systolic else {"kind": "cube"}
    sizes = {} if systolic else dict(zip(("tile_m", "tile_n", "tile_k"), tile, strict=True))
    return MachineSpec.model_validate(
        {
            "name": "handmade",
            "technology": "7nm",
            "clock": CLOCK_HZ,
            "launch": launch_cycles / CLOCK_HZ,
            "cores": cores,
            "items_in_flight": items_in_flight,
            "placement": placement,
            "cube": {
                **array,
                **sizes,
                "rates": cube_rates or {"fp16": 1},
                "issue_cycles": cube_issue_cycles,
                "setup": cube_setup_cycles / CLOCK_HZ,
                "pipeline_depth_cycles": cube_depth_cycles,
                "operand_buffer": 2**16,
            },
            "int_mac": {
                **dict(zip(("rows", "cols", "pipeline_depth_cycles"), int_mac, strict=True)),
                "index_buffer": 2**16,
            },
            "vector": {
                "lanes": lanes or {"fp16": 1},
                "issue_cycles": issue_cycles,
                "pipeline_depth_cycles": vector_depth_cycles,
                "costs": unit_costs | (costs or {}),
            },
            "scratchpad": {"capacity": scratchpad_bytes, "bandwidth": scratchpad_bytes_per_cycle},
            "accumulator": {
                "capacity": accumulator_bytes,
                "bandwidth": accumulator_bytes_per_cycle,
            },
            "load": {"bandwidth": load_bytes_per_cycle, "in_flight": load_in_flight},
            "store": {"bandwidth": store_bytes_per_cycle, "in_flight": store_in_flight},
            "l2": l2,
            "hbm": {
                "kind": "flat",
                "standard": "hbm2",
                "capacity": 2**30,
                "bandwidth": hbm_bytes_per_cycle * CLOCK_HZ,
                "channels": channels,
                "latency": latency_cycles / CLOCK_HZ,
                "interleave": interleave_bytes,
            },
        }
    )


def cache_of(
    *,
    sets: int = 4,
    ways: int = 2,
    sectors: int = 2,
    sector_bytes: int = 32,
    slices: int = 1,
    bytes_per_cycle: float = WIDE_BYTES_PER_CYCLE,
    latency_cycles: int = 1,
    writes: str = "back",
) -> dict[str, Any]:
    """Return the `l2` of a machine."""
    line_bytes = sectors * sector_bytes
    return {
        "capacity": sets * ways * line_bytes,
        "line": line_bytes,
        "sector": sector_bytes,
        "ways": ways,
        "slices": slices,
        "bandwidth": bytes_per_cycle * CLOCK_HZ,
        "latency": latency_cycles / CLOCK_HZ,
        "writes": writes,
    }


def packed(slots: Sequence[int]) -> int:
    """Return the word that holds up to four slot numbers."""
    return sum(slot << (SLOT_BITS * place) for place, slot in enumerate(slots))


def load(
    slot: int, address: int, row_bytes: int, *, rows: int = 1, step: int = 0, tensor: int = 0
) -> Words:
    """Return the words of a transfer from HBM to a slot."""
    head = Op.LOAD | tensor << TENSOR_SHIFT
    return (head, 0, slot, address, rows, row_bytes, step or row_bytes)


def gather(
    slot: int,
    address: int,
    row_bytes: int,
    *,
    rows: int,
    first: int = 0,
    tensor: int = 0,
    numbers: int = 0,
) -> Words:
    """Return the words of a transfer of single rows from HBM to a slot; numbers: slot read."""
    head = Op.GATHER | tensor << TENSOR_SHIFT
    return (head, numbers, slot, address, rows, row_bytes, first)


def store(
    slot: int, address: int, row_bytes: int, *, rows: int = 1, step: int = 0, tensor: int = 1
) -> Words:
    """Return the words of a transfer from a slot to HBM."""
    head = Op.STORE | tensor << TENSOR_SHIFT
    return (head, slot, 0, address, rows, row_bytes, step or row_bytes)


def matmul(
    acc: int,
    a: int,
    b: int,
    m: int,
    n: int,
    k: int,
    *,
    fmt: Format = Format.FP16,
    bits: tuple[int, int] = (16, 16),
    accumulate: bool = False,
) -> Words:
    """Return the words of acc[m, n] (+)= a[m, k] b[k, n]."""
    head = Op.MATMUL | fmt.code << OPERAND_SHIFT | Format.FP32.code << ACCUMULATOR_SHIFT
    reads = packed((a, b, acc) if accumulate else (a, b))
    return (head, reads, acc, m, n, k, bits[0] | bits[1] << 8)


def int_matmul(
    acc: int,
    a: int,
    b: int,
    m: int,
    n: int,
    k: int,
    *,
    bits: tuple[int, int] = (4, 4),
    shifts: int = 0,
    order: int = 0,
    accumulate: bool = False,
) -> Words:
    """Return the words of a product of the integer array; `order` is a slot of channel numbers."""
    left, right = ({4: Format.INT4, 8: Format.INT8}[each] for each in bits)
    head = Op.INT_MATMUL | left.code << OPERAND_SHIFT | right.code << OUTPUT_SHIFT
    reads = packed((a, b, order, acc if accumulate else 0))
    sizes = bits[0] | bits[1] << BITS_B_SHIFT | shifts << SHIFTS_SHIFT
    return (head | Format.INT32.code << ACCUMULATOR_SHIFT, reads, acc, m, n, k, sizes)


def scaled_matmul(
    acc: int,
    reads: tuple[int, int, int, int],
    sizes: tuple[int, int, int],
    *,
    op: Op = Op.SCALED_MATMUL,
    formats: tuple[Format, Format] = (Format.FP8_E4M3, Format.FP8_E4M3),
    scales: tuple[Format, Format] = (Format.E8M0, Format.E8M0),
    runs: tuple[int, int, int] = (32, 32, 1),
    accumulate: bool = False,
) -> Words:
    """Return the words of a product with shared scales; reads: a, b and their scales.

    formats: of the elements of a and b; runs: elements of a and of b along k that share a scale,
    and columns of b that do.
    """
    is_swapped = op == Op.SCALED_MATMUL and formats[0].bits < formats[1].bits
    first, second = formats[::-1] if is_swapped else formats
    sums = Format.FP32 if op == Op.SCALED_MATMUL else Format.INT32
    head = op | first.code << OPERAND_SHIFT | second.code << OUTPUT_SHIFT
    d = formats[0].bits | formats[1].bits << BITS_B_SHIFT
    d |= runs[0] << 16 | runs[1] << 27 | runs[2] << 50 | accumulate << 61
    d |= scales[0].code << 38 | scales[1].code << 44
    return (head | sums.code << ACCUMULATOR_SHIFT, packed(reads), acc, *sizes, d)


def move(
    dst: int, acc: int, rows: int, cols: int, *, read_bytes: int = 1, written_bytes: int = 1
) -> Words:
    """Return the words of a move from the accumulator to the scratchpad."""
    head = Op.MOVE | Format.FP32.code << ACCUMULATOR_SHIFT | Format.FP16.code << OUTPUT_SHIFT
    return (head, acc, dst, rows, cols, read_bytes, written_bytes)


def vector(
    dst: int,
    elements: int,
    *,
    reads: Sequence[int] = (),
    op: Op = Op.ADD,
    fmt: Format = Format.FP16,
    read_bytes: int = 1,
    written_bytes: int = 1,
) -> Words:
    """Return the words of a vector op over one row of `elements`."""
    head = op | fmt.code << OPERAND_SHIFT
    return (head, packed(reads), dst, 1, elements, read_bytes, written_bytes)


def program_of(
    items: Sequence[Sequence[Words]],
    phases: Sequence[int] | None = None,
    *,
    tensors: Sequence[TensorInfo] | None = None,
    buffers: Sequence[BufferInfo] | None = None,
    gathered_rows: Sequence[int] = (),
) -> Program:
    """Return the program of these items; slots 1 to 15 exist, and tensors `in` and `out`."""
    ops = [op for item in items for op in item]
    lengths: list[Any] = [len(item) for item in items]
    default_tensors = (
        TensorInfo("in", "input", 1024, 512, 16, 0),
        TensorInfo("out", "output", 1024, 512, 16, 2**20),
    )
    return Program(
        name="handmade",
        ops=np.array(ops, np.int64).reshape(-1, WORDS),
        item_start=np.cumsum([0, *lengths]),
        item_phase=np.array(phases if phases is not None else [0] * len(items), np.int64),
        tensors=tuple(tensors if tensors is not None else default_tensors),
        buffers=tuple(buffers or [BufferInfo("s", "scratchpad", SLOTS, 64, 64, 16, 1)]),
        gathered_rows=np.array(gathered_rows, np.int64),
    )


def changed(machine: MachineSpec, path: str, change: Callable[[Any], Any]) -> MachineSpec:
    """Return the machine with `change` applied to the field at a dotted path."""
    part, _, name = path.rpartition(".")
    spec = getattr(machine, part) if part else machine
    new = spec.model_copy(update={name: change(getattr(spec, name))})
    return machine.model_copy(update={part: new}) if part else new
