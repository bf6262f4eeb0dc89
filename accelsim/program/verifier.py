"""Rules that every tile program keeps, whatever kernel recorded it."""

import numpy as np

from accelsim.errors import ProgramError
from accelsim.program.op_rules import Fault, Rule, first_fault
from accelsim.program.ops import A, B, C, D, Op, Unit
from accelsim.program.printer import format_op
from accelsim.program.program import Program, Words

_PRODUCT = "a product reads the scratchpad and writes the accumulator"
_MEMORIES = {
    Op.LOAD: "a load writes the scratchpad or the index buffer",
    Op.MATMUL: _PRODUCT,
    Op.INT_MATMUL: f"{_PRODUCT}, and has its order in the index buffer",
    Op.SCALED_MATMUL: _PRODUCT,
    Op.ALIGNED_MATMUL: _PRODUCT,
    Op.MOVE: "a move reads the accumulator and writes the scratchpad",
}


def verify(program: Program) -> None:
    """Check a program; raise ProgramError naming the first op that breaks a rule.

    Ops move and compute something, in the memories of their unit, and touch no more of a tile than
    there is. Tiles are written before they are read, within their work item. Transfers stay inside
    their tensor. A tensor is read only in phases after it was stored, and every element of an
    output, of which there is at least one, is stored exactly once; of an output that is written in
    parts, as many rows as it says.
    """
    _check_phases(program)
    _check_ops(program)
    if not any(tensor.role == "output" for tensor in program.tensors):
        raise ProgramError(f"{program.name}: has no output tensor")
    stores = np.flatnonzero(program.op_codes == Op.STORE)
    stored = program.tensor_indices[stores]
    for index, tensor in enumerate(program.tensors):
        own = stores[stored == index]
        if tensor.role == "input":
            _check_never_stored(program, own)
        else:
            _check_stored_once(program, index, own)
            _check_stored_before_loaded(program, index, own)


def _fail(program: Program, index: int, reason: str) -> ProgramError:
    op = format_op(program, program.decode(int(index))).strip()
    return ProgramError(f"{program.name}: op {op}: {reason}")


def _check_phases(program: Program) -> None:
    if np.any(np.diff(program.item_phase) < 0):
        item = int(np.argmax(np.diff(program.item_phase) < 0)) + 1
        raise ProgramError(
            f"{program.name}: item {item} begins an earlier phase than the one before"
        )


def _check_ops(program: Program) -> None:
    fault = first_fault(program)
    if fault.rule == Rule.NAMES:
        raise ProgramError(
            f"{program.name}: op {fault.op_index}: "
            f"names an op, a format, a slot or a tensor that is not there"
        )
    if fault.rule != Rule.NONE:
        raise _fail(program, fault.op_index, _reason(program, fault))


def _reason(program: Program, fault: Fault) -> str:
    name, buffer = program.slot_name(fault.slot), program.buffer_of(fault.slot)
    if fault.rule == Rule.WRITTEN:
        return f"reads {name}, which its work item has not written"
    if buffer and fault.rule == Rule.MEMORY:
        op = Op(int(program.op_codes[fault.op_index]))
        allowed = _MEMORIES.get(op, "it reads and writes the scratchpad")
        return f"uses {name}, which lies in the {buffer.memory}; {allowed}"
    if buffer and fault.rule == Rule.EXTENT:
        return f"touches more of {name} than its {buffer.rows}x{buffer.cols} x {buffer.bits} bit"
    return "has no size" if fault.rule == Rule.SIZE else "reaches outside its tensor"


def _rows(program: Program, transfers: Words) -> tuple[Words, Words, Words]:
    """Return the rows that these DMA ops move, as op, first byte and end."""
    rows = program.ops[transfers, B]
    op_of_row = np.repeat(transfers, rows)
    row_in_op = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
    ops = program.ops[op_of_row]
    offset = row_in_op * ops[:, D]
    is_gathered = program.op_codes[op_of_row] == Op.GATHER
    row_bytes = np.array([tensor.row_bytes for tensor in program.tensors], np.int64)
    gathered = program.gathered_rows[(ops[:, D] + row_in_op)[is_gathered]]
    offset[is_gathered] = gathered * row_bytes[program.tensor_indices[op_of_row[is_gathered]]]
    begin = ops[:, A] + offset
    return op_of_row, begin, begin + ops[:, C]


def _check_never_stored(program: Program, stores: Words) -> None:
    if stores.size:
        raise _fail(program, stores[0], "stores to an input")


def _check_stored_once(program: Program, tensor: int, stores: Words) -> None:
    info = program.tensors[tensor]
    op_of_row, begin, end = _in_order(_rows(program, stores))
    overlap = begin[1:] < end[:-1]
    if overlap.any():
        later = op_of_row[1:][np.argmax(overlap)]
        raise _fail(program, later, f"stores a part of {info.name} that was stored already")
    if info.role == "output" and (end - begin).sum() != info.needed_bytes:
        needed, stored = info.needed_bytes, int((end - begin).sum())
        raise ProgramError(
            f"{program.name}: output {info.name} has {needed} B, but {stored} B are stored"
        )


def _in_order(rows: tuple[Words, Words, Words]) -> tuple[Words, Words, Words]:
    """Return the rows of `_rows` in the order of their addresses."""
    order = np.argsort(rows[1], kind="stable")
    return rows[0][order], rows[1][order], rows[2][order]


def _check_stored_before_loaded(program: Program, tensor: int, stores: Words) -> None:
    """Check every loaded row against the stored ones, which `_check_stored_once` found disjoint."""
    loads = np.flatnonzero((program.units == Unit.LOAD) & (program.tensor_indices == tensor))
    if not loads.size:
        return
    phase = np.repeat(program.item_phase, np.diff(program.item_start))
    op_of_row, begin, end = _rows(program, loads)
    store, stored_begin, stored_end = _in_order(_rows(program, stores))
    first = np.searchsorted(stored_end, begin, side="right")
    last = np.searchsorted(stored_begin, end, side="left")
    stored_before = np.append(0, np.cumsum(stored_end - stored_begin))
    ahead = begin - np.append(stored_begin, np.iinfo(np.int64).max)[first]
    beyond = np.append(0, stored_end)[last] - end
    stored = stored_before[last] - stored_before[first]
    stored -= np.maximum(ahead, 0) + np.maximum(beyond, 0)
    ranges = np.stack([first, last], axis=1).ravel()
    latest = np.maximum.reduceat(np.append(phase[store], -1), ranges)[::2]
    early = (stored < end - begin) | (latest >= phase[op_of_row])
    if early.any():
        reason = "loads what is not stored in an earlier phase"
        raise _fail(program, op_of_row[np.argmax(early)], reason)
