"""Attention with online softmax: scores and probabilities never leave the chip.

Sources: Dao et al., "FlashAttention" (2022), Algorithm 1; Dao, "FlashAttention-2" (2023), section
3.1 (one division by the row sum, at the end); Shah et al., "FlashAttention-3" (2024), section 3.2
(the scores of the next key tile are computed while the vector unit works on the current one).

HBM reads of one head with query tiles of B_r rows: S_q d b + ceil(S_q / B_r) 2 S_k d b, under a
causal mask only the key tiles at or below the diagonal; writes: S_q d b. Where the G query heads of
a KV head are folded, it is G S_q rows that are cut into tiles: G S_q d b + ceil(G S_q / B_r) 2 S_k
d b for all of them.
"""

from typing import Any, ClassVar

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import (
    declare_operands,
    softmax_attention,
    step_formats,
)
from accelsim.kernels.attention.flash_tiles import FlashParameters, flash_tiles
from accelsim.kernels.attention.online_softmax import (
    add_values,
    allocate,
    begin_rows,
    finish_rows,
    multiply_keys,
    seen_tiles,
    shape_of,
    update_weights,
)
from accelsim.kernels.attention.turns import allocate_turns, query_tiles_in_turn
from accelsim.kernels.base import Array, Kernel
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import begin_item
from accelsim.program.program import Program
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


@jit
def flash(p, shape, fmt, hbm, b, by_head):
    """All query tiles of all heads, one a work item."""
    tiles_q = -(-shape.q_len // shape.tile_q)
    for item in range(tiles_q * shape.heads):
        head, row = _place(item, tiles_q, shape.tile_q, shape, by_head)
        begin_item(p, 0)
        _query_tile(p, item, head, row, shape, fmt, hbm, b)


@jit_inner
def _place(item, blocks, rows, shape, by_head):
    """Head and first row of a work item; by default those with the most keys come first."""
    if by_head:
        return item // blocks, item % blocks * rows
    return item % shape.heads, (blocks - 1 - item // shape.heads) * rows


@jit_inner
def _query_tile(p, item, head, row, shape, fmt, hbm, b):
    """One tile of query rows against all the keys it sees."""
    rows, step = min(shape.tile_q, shape.q_len - row), shape.tile_k
    q_row, kv_row = head * shape.q_len + row, head // shape.group * shape.kv_len
    tiles_k = seen_tiles(row, rows, shape)

    begin_rows(p, item, q_row, rows, shape, fmt, hbm, b)
    multiply_keys(p, item, 0, 0, rows, kv_row, shape, fmt, hbm, b)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            multiply_keys(p, item, j + 1, (j + 1) * step, rows, kv_row, shape, fmt, hbm, b)
        update_weights(p, j, j * step, rows, row, shape, fmt, b)
        add_values(p, j, j * step, rows, kv_row, shape, fmt, hbm, b)
    finish_rows(p, q_row, rows, shape, fmt, hbm, b)


@jit
def flash_turns(p, shape, fmt, hbm, first, second, by_head):
    """All pairs of query tiles of all heads, one pair a work item."""
    blocks = -(-shape.q_len // (2 * shape.tile_q))
    for item in range(blocks * shape.heads):
        head, row = _place(item, blocks, 2 * shape.tile_q, shape, by_head)
        begin_item(p, 0)
        query_tiles_in_turn(p, item, head, row, shape, fmt, hbm, first, second)


class Flash(Kernel):
    """Attention with online softmax."""

    name: ClassVar[str] = "flash"
    summary: ClassVar[str] = "attention with online softmax; scores never leave the chip"
    problem_kind: ClassVar[str] = "attention"
    parameters: ClassVar[type[Spec]] = FlashParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: FlashParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        formats = step_formats(problem.dtype, parameters.precision)
        tiles = flash_tiles(problem, machine, parameters)
        tile_q, tile_k, query_tiles, fold, _ = tiles
        declare: Any = allocate_turns if query_tiles == 2 else allocate
        builder = ProgramBuilder(f"flash on {problem.name}", with_numbers=tensors is not None)
        hbm = declare_operands(builder, problem, tensors)
        buffers = declare(builder, problem.head_dim, formats, tile_q, tile_k)
        scale_query = parameters.scale_at == "query"
        shape = shape_of(problem, formats, tile_q, tile_k, fold=fold, scale_query=scale_query)
        items = shape.heads * ceil_div(shape.q_len, query_tiles * tile_q)
        kernel, own = (flash_turns, buffers) if query_tiles == 2 else (flash, (buffers,))
        by_head = parameters.order == "by_head"
        program = builder.record(kernel, items, shape, formats.codes, hbm, *own, by_head)
        return program.with_parameters(**tiles.parameters), hbm.o.data

    @classmethod
    def estimated_cycles(
        cls, problem: AttentionProblem, machine: MachineSpec, parameters: FlashParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        return flash_tiles(problem, machine, parameters).cycles

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)
