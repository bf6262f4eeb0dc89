"""Systolic arrays against the cycles that SCALE-Sim prints: exact, row by row."""

import numpy as np
import pytest

from accelsim.engine import compiled, reference
from accelsim.kernels.registry import get_kernel
from accelsim.program.ops import Op
from accelsim.validation.outcome import validate
from accelsim.validation.registry import get_reference
from accelsim.validation.scalesim import predict
from accelsim.validation.table import read_rows
from accelsim.workload.problem import GemmProblem
from tests.handmade import machine_of

SCALESIM = get_reference("scalesim")
ROWS = read_rows(SCALESIM.shipped_file, SCALESIM.row)
DATAFLOWS = {"os": "output_stationary", "ws": "weight_stationary", "is": "input_stationary"}


def test_every_row_is_exact():
    outcome = validate(SCALESIM)
    assert [row for row in outcome.rows if row.predicted != row.reference] == []
    counts = {kind: each.count for kind, each in outcome.kinds.items()}
    assert counts == {"is": 24, "os": 21, "ws": 13}


def product_on_idle_memory(row, engine):
    """The whole product of a row as one op of the gemm kernel, ports and memory of no concern."""
    array = {"rows": row.array_rows, "cols": row.array_cols, "dataflow": DATAFLOWS[row.dataflow]}
    machine = machine_of(systolic=array, scratchpad_bytes=2**30, accumulator_bytes=2**30)
    problem = GemmProblem(kind="gemm", name="row", m=row.M, n=row.N, k=row.K, dtype="fp16")
    gemm = get_kernel("gemm")
    whole = gemm.parameters(tile_m=row.M, tile_n=row.N, tile_k=row.K)
    program, _ = gemm.record(problem, machine, whole, None)
    schedule = engine.schedule(program, machine)
    ops = np.flatnonzero(program.op_codes == Op.MATMUL)
    return [(int(schedule.busy[op]), int(schedule.end[op] - schedule.start[op])) for op in ops]


@pytest.mark.parametrize("engine", [compiled, reference])
def test_the_engines_give_the_op_what_was_validated(engine):
    """SCALE-Sim prints the number of the last cycle, from 0; the op takes one cycle more."""
    for row in ROWS:
        cycles = predict(row) + 1
        assert product_on_idle_memory(row, engine) == [(cycles, cycles)]
