"""Gathers of rows measured on an NVIDIA H200 SXM, against runs of the machine with its banks.

A kernel sums rows of a table of 8 GiB: it reads 4-byte row numbers and the rows, and writes four
bytes a row. A program of two sizes is scheduled on the whole machine; what the larger one takes
longer is the rate, which stands for all rows.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt

from accelsim.engine import compiled
from accelsim.hardware.machine import MachineSpec
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.long import held
from accelsim.program.program import Program
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit
from accelsim.validation.reference import Reference, Row

_TILE_BYTES = 8192
"""Rows that a core asks for at once. Assumption: what 128 threads with loads of 64 bytes do; 16
such loads of a core are what 2,048 threads have in flight."""
_SAMPLE_BYTES = 2**25, 2**26
"""Rows of the two programs: 254 KiB and twice that for each core; 128 KiB are in flight."""
_ELEMENT = Format.FP16
_SUM = Format.FP32
_SEED = 0


class GatherRow(Row):
    """One gather."""

    row_bytes: PositiveInt
    kept: float = Field(gt=0, le=1)
    """Share of the rows of the span that are read."""
    order: Literal["sorted", "random"]
    rows: PositiveInt
    """Rows that are read."""
    time_us: PositiveFloat


class Gathering(NamedTuple):
    """A run of the kernel."""

    useful_bytes: int
    """Bytes of the rows."""
    moved_bytes: float
    """What the memory moves: whole accesses, row numbers and sums."""
    time_s: float


class _Layout(NamedTuple):
    """What the loop works on."""

    tiles: int
    """Of all rows."""
    cores: int
    rows: int
    """Of a tile."""
    cols: int
    numbers: Tensor
    table: Tensor
    sums: Tensor
    indices: Buffer
    gathered: Buffer
    summed: Buffer


@jit
def _gather(p: Any, k: Any) -> None:
    """Cores take tiles in turn, and each asks for its next ones while it sums."""
    for core in range(k.cores):
        al.begin_item(p, 0)
        for tile in range(core, k.tiles, k.cores):
            turn = tile // k.cores
            index = al.tile(k.indices, turn, 1, k.rows)
            rows = al.tile(k.gathered, turn, k.rows, k.cols)
            sums = al.tile(k.summed, turn, k.rows, 1)
            al.load(p, index, k.numbers, 0, tile * k.rows)
            al.gather(p, rows, k.table, index, 0, 0)
            al.row_sum(p, sums, rows)
            al.store(p, k.sums, tile * k.rows, 0, sums)


def gathering(row: GatherRow, machine: MachineSpec) -> Gathering:
    """Return the run of what a row measured."""
    small, large = (_run(row, machine, num_bytes) for num_bytes in _SAMPLE_BYTES)
    rows, cycles, moved_bytes = (after - before for before, after in zip(small, large, strict=True))
    started = max(0.0, small[1] - small[0] * cycles / rows)
    return Gathering(
        useful_bytes=row.rows * row.row_bytes,
        moved_bytes=row.rows * moved_bytes / rows,
        time_s=(started + row.rows * cycles / rows) / machine.clock,
    )


def useful_bytes_per_s(row: GatherRow, machine: MachineSpec) -> float:
    """Return the bytes of rows that a second of the kernel brings."""
    run = gathering(row, machine)
    return run.useful_bytes / run.time_s


def _run(row: GatherRow, machine: MachineSpec, num_bytes: int) -> tuple[int, int, int]:
    """Return the rows, the cycles and the bytes moved of a program for so many bytes of rows."""
    program = _program(row, machine, num_bytes)
    schedule = compiled.schedule(program, machine)
    moved = schedule.traffic.hbm_read_bytes + schedule.traffic.hbm_write_bytes
    return len(program.gathered_rows), schedule.cycles, moved


def _program(row: GatherRow, machine: MachineSpec, num_bytes: int) -> Program:
    rows = max(1, _TILE_BYTES // row.row_bytes)
    cols = max(1, row.row_bytes * 8 // _ELEMENT.bits)
    tiles, stages = num_bytes // (rows * row.row_bytes), machine.load.in_flight
    numbers = _row_numbers(row, machine, tiles, rows)
    builder = ProgramBuilder("gather", with_numbers=False)
    span_rows = max(round(row.rows / row.kept), int(numbers.max()) + 1)
    layout = _Layout(
        tiles=tiles,
        cores=machine.cores,
        rows=rows,
        cols=cols,
        table=builder.tensor("table", "input", span_rows, cols, _ELEMENT),
        numbers=builder.index_tensor("numbers", numbers),
        sums=builder.tensor("sums", "output", tiles * rows, 1, _SUM),
        indices=builder.index_buffer("index", rows, slots=stages),
        gathered=builder.buffer("rows", rows, cols, _ELEMENT, slots=stages),
        summed=builder.buffer("sums", rows, 1, _SUM, slots=stages),
    )
    return held(builder.record(_gather, machine.cores, layout), "a gather")


def _row_numbers(
    row: GatherRow, machine: MachineSpec, tiles: int, rows: int
) -> npt.NDArray[np.int32]:
    """Return the rows that are read, tile by tile.

    Tiles of sorted rows that are in flight together reach the memory in no order.
    """
    generator, count = np.random.default_rng(_SEED), tiles * rows
    if row.order == "random":
        span = max(count, round(row.rows / row.kept))
        return generator.integers(0, span, count, np.int32)
    gaps = generator.geometric(row.kept, count) if row.kept < 1 else np.ones(count, np.int64)
    numbers = (np.cumsum(gaps) - 1).astype(np.int32).reshape(tiles, rows)
    together = machine.cores * machine.load.in_flight
    for first in range(0, tiles, together):
        generator.shuffle(numbers[first : first + together])
    return numbers.reshape(-1)


def label_of(row: GatherRow) -> str:
    """Return the gather in a few words."""
    return f"{row.row_bytes} B, {row.kept:g} kept"


REFERENCE = Reference(
    name="h200-gather",
    summary="useful bandwidth of gathered rows measured on an NVIDIA H200 SXM",
    row=GatherRow,
    file="h200-gather.csv",
    quantity="bandwidth_bytes_per_s",
    kind_of=lambda row: row.order,
    label_of=label_of,
    value_of=lambda row: row.rows * row.row_bytes / (row.time_us * 1e-6),
    predict=useful_bytes_per_s,
    machine="h200-sxm-banked",
)
