"""Run this experiment: `python run.py OUT`; writes OUT/{memory,break_even,kernels}.csv.

memory.csv: one stack alone reads kept rows of V, all of them known to its controllers at once.
break_even.csv: the largest kept share at which that costs no more than to read all rows.
kernels.csv: whole decode steps on 24 cores, against the share of V that is read.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from accelsim import Recipe, load_machine, load_workload, simulate
from accelsim.engine.memory.door import dram_commands, new_memory, request
from accelsim.hardware.machine import MachineSpec
from accelsim.program.ops import WORDS, Op
from accelsim.program.program import Program
from accelsim.program.transfer import Transfer
from accelsim.units import BITS_PER_BYTE

BANKED, STANDARDS = "ascend-910b-banked", ("hbm2", "hbm3")
NO_L2 = {"l2": None}
"""What the memory does, and no cache before it."""

UPPER = ["row", "bank", "rank", "bank_group:1", "channel", "pseudo_channel"]
MAPPINGS = {
    128: [*UPPER, "column", "bank_group:1", "column:2"],
    1024: [*UPPER, "bank_group:1", "column"],
}
"""Consecutive bytes that lie in one DRAM row -> mapping; 128 is that of the machine. With either,
2 KiB of an address range fill two rows of two bank groups."""
DRAM_ROW_BYTES = 1024

ROW_BYTES = (32, 64, 128, 256, 512, 1024)
KEPT = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
ORDERS = ("sorted", "scattered")
USEFUL_BYTES = 2**24
SEED = 0

STEP, CONTEXT, BATCH = "llama-3-8b/decode-4096/attention-of-steps", 8192, 6
HEAD_DIMS = (64, 128)
UNIONS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

Row = dict[str, Any]


class Pattern(NamedTuple):
    """Which rows are read, in which order, and how they lie in the DRAM."""

    piece_bytes: int
    order: str
    row_bytes: int
    kept: float


def patterns() -> Iterator[Pattern]:
    for piece_bytes, *others in product(MAPPINGS, ORDERS, ROW_BYTES, KEPT):
        pattern = Pattern(piece_bytes, *others)
        # A row of V that fits into either piece opens one DRAM row with both.
        if pattern.row_bytes > min(MAPPINGS) or piece_bytes == min(MAPPINGS):
            yield pattern


def kept_rows(pattern: Pattern) -> npt.NDArray[np.int64]:
    """Return the numbers of random rows in the order in which they are read.

    There are as many at every share, so that no run is short: what grows is the tensor.
    """
    generator = np.random.default_rng(SEED)
    count = USEFUL_BYTES // pattern.row_bytes
    rows = generator.choice(round(count / pattern.kept), count, replace=False)
    return np.sort(rows) if pattern.order == "sorted" else rows


def bytes_per_activation(pattern: Pattern) -> float:
    """Return the useful bytes of an activation if every DRAM row is opened once for what it holds.

    Scattered rows of V share no DRAM row. Of the sorted ones, a DRAM row that holds parts of n has
    kept x 1024 B, and is opened unless none of the n is kept.
    """
    dram_rows = 1 if pattern.row_bytes <= pattern.piece_bytes else 2
    if pattern.order == "scattered":
        return pattern.row_bytes / dram_rows
    sharing = dram_rows * DRAM_ROW_BYTES / pattern.row_bytes
    return pattern.kept * DRAM_ROW_BYTES / (1 - (1 - pattern.kept) ** sharing)


def read(machine: MachineSpec, pattern: Pattern) -> Row:
    """Return what the memory alone takes for one gather of all kept rows."""
    rows = kept_rows(pattern)
    op = np.zeros((1, WORDS), np.int64)
    op[0, :] = Op.GATHER, 0, 0, 0, len(rows), pattern.row_bytes, 0
    starts, phases = np.array([0, 1]), np.zeros(1, np.int64)
    memory = new_memory(machine, Program("gather", op, starts, phases, (), (), rows))
    gather = Transfer(0, len(rows), pattern.row_bytes, pattern.row_bytes, 0, is_write=False)
    cycles = request(memory, 0, gather)
    commands, hbm = dram_commands(memory, machine, cycles), machine.hbm
    bits, cost = BITS_PER_BYTE * USEFUL_BYTES, hbm.dram.energy
    moved_pj = commands.read_bursts * hbm.dram.shape.burst * cost.read
    return pattern._asdict() | {
        "useful_bytes_per_s": USEFUL_BYTES * machine.clock / cycles,
        "pins_share": USEFUL_BYTES * machine.clock / cycles / hbm.bandwidth,
        "bytes_per_activation": USEFUL_BYTES / commands.activations,
        "expected_bytes_per_activation": bytes_per_activation(pattern),
        "pj_per_bit": (moved_pj + commands.activations * cost.activate) / bits,
        "refresh_pj_per_bit": commands.refreshes * cost.refresh / bits,
    }


def memory() -> Iterator[Row]:
    for standard, pattern in product(STANDARDS, patterns()):
        changes = NO_L2 | {
            "hbm.standard": standard,
            "hbm.stacks": 1,
            "hbm.mapping": MAPPINGS[pattern.piece_bytes],
        }
        yield {"standard": standard} | read(load_machine(BANKED, changes), pattern)


def break_even(frame: pd.DataFrame) -> Iterator[Row]:
    """Compare a share of the rows with a stream of all of them, which is the sorted share of 1."""
    for keys, line in frame.groupby(["standard", "piece_bytes", "row_bytes"]):
        stream = line[(line["order"] == "sorted") & (line["kept"] == 1)].iloc[0]
        stream_pj = stream["pj_per_bit"] + stream["refresh_pj_per_bit"]
        for order, chosen in line.sort_values("kept").groupby("order"):
            gathered_pj = chosen["pj_per_bit"] + chosen["refresh_pj_per_bit"]
            slowdown = stream["useful_bytes_per_s"] / chosen["useful_bytes_per_s"]
            yield {
                **dict(zip(("standard", "piece_bytes", "row_bytes"), keys, strict=True)),
                "order": order,
                "time": crossing(chosen["kept"], slowdown),
                "energy": crossing(chosen["kept"], gathered_pj / stream_pj),
            }


def crossing(kept: pd.Series, ratio: pd.Series) -> float:
    """Return the share at which kept x ratio, which grows with it, comes to 1; at most 1."""
    return float(np.interp(1.0, kept * ratio, kept))


def kernels() -> Iterator[Row]:
    for standard, head_dim in product(STANDARDS, HEAD_DIMS):
        sizes = {"kv_len": CONTEXT, "batch": BATCH, "head_dim": head_dim}
        workload = load_workload(STEP, sizes)
        machine = load_machine(BANKED, NO_L2 | {"hbm.standard": standard})
        point = {"standard": standard, "row_bytes": 2 * head_dim}
        dense = simulate(machine, workload, "split_kv").to_row()
        yield point | {"union": 1.0} | dense
        for union in UNIONS:
            sift = simulate(machine, workload, Recipe("sift", assumed_union=union))
            yield point | {"union": union} | sift.to_row()


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    gathered = pd.DataFrame(memory())
    limits = pd.DataFrame(break_even(gathered))
    steps = pd.DataFrame(kernels())
    for name, frame in {"memory": gathered, "break_even": limits, "kernels": steps}.items():
        frame.to_csv(out / f"{name}.csv", index=False)
        print(f"wrote {out / name}.csv")
    keys = ["order", "piece_bytes", "row_bytes"]
    table = limits.pivot_table(["time", "energy"], keys, "standard")
    print(table.round(2).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
