"""Rules that every tile program keeps, whatever kernel recorded it."""

import numpy as np

from accelsim.errors import ProgramError
from accelsim.program.ops import READS, SLOT_BITS, SLOTS_PER_WORD, WRITES, A, B, C, D, Op, Unit
from accelsim.program.printer import format_op
from accelsim.program.program import Program, Words


def verify(program: Program) -> None:
    """Check a program; raise ProgramError naming the first op that breaks a rule.

    Ops move and compute something. Tiles are written before they are read, within their work item.
    Transfers stay inside their tensor. A tensor is read only in phases after it was stored, and
    every element of an output is stored exactly once.
    """
    _check_phases(program)
    _check_sizes(program)
    _check_tiles(program)
    _check_bounds(program)
    for index, tensor in enumerate(program.tensors):
        if tensor.role == "input":
            _check_never_stored(program, index)
        else:
            _check_stored_once(program, index)
            _check_stored_before_loaded(program, index)


def _fail(program: Program, index: int, reason: str) -> ProgramError:
    op = format_op(program, program.decode(int(index))).strip()
    return ProgramError(f"{program.name}: op {op}: {reason}")


def _check_phases(program: Program) -> None:
    if np.any(np.diff(program.item_phase) < 0):
        item = int(np.argmax(np.diff(program.item_phase) < 0)) + 1
        raise ProgramError(
            f"{program.name}: item {item} begins an earlier phase than the one before"
        )


def _check_sizes(program: Program) -> None:
    empty = (program.ops[:, A] < 0) | (program.ops[:, B] <= 0)
    empty |= (program.units != Unit.LOAD) & (program.units != Unit.STORE) & (program.ops[:, A] <= 0)
    empty |= (program.op_codes != Op.FILL) & (program.ops[:, C] <= 0)
    if empty.any():
        raise _fail(program, int(np.argmax(empty)), "has no size")


def _check_tiles(program: Program) -> None:
    written: set[int] = set()
    starts = set(program.item_start[:-1].tolist())
    slots = range(SLOTS_PER_WORD)
    shifts = np.array([SLOT_BITS * i for i in slots])
    mask = (1 << SLOT_BITS) - 1
    reads = ((program.ops[:, READS, None] >> shifts) & mask).tolist()
    writes = ((program.ops[:, WRITES, None] >> shifts) & mask).tolist()
    for index in range(program.num_ops):
        if index in starts:
            written.clear()
        for slot in reads[index]:
            if slot and slot not in written:
                name = program.slot_name(slot)
                raise _fail(program, index, f"reads {name}, which its work item has not written")
        written.update(slot for slot in writes[index] if slot)


def _check_bounds(program: Program) -> None:
    first = np.array([tensor.address for tensor in program.tensors], np.int64)
    size = np.array([tensor.size_bytes for tensor in program.tensors], np.int64)
    index, begin, end = _extents(program)
    tensors = program.tensor_indices[index]
    outside = (begin < first[tensors]) | (end > first[tensors] + size[tensors])
    if outside.any():
        raise _fail(program, index[np.argmax(outside)], "reaches outside its tensor")


def _extents(program: Program) -> tuple[Words, Words, Words]:
    """Return pieces of HBM that ops touch, as op, first byte and end: whole ops, gathered rows."""
    is_gather = program.op_codes == Op.GATHER
    strided = np.flatnonzero((program.hbm_bytes > 0) & ~is_gather)
    begin = program.ops[strided, A]
    end = begin + (program.ops[strided, B] - 1) * program.ops[strided, D] + program.ops[strided, C]
    gathers, gathered_begin, gathered_end = _rows(program, np.flatnonzero(is_gather))
    return (
        np.concatenate([strided, gathers]),
        np.concatenate([begin, gathered_begin]),
        np.concatenate([end, gathered_end]),
    )


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


def _stores(program: Program, tensor: int) -> Words:
    is_store = (program.units == Unit.STORE) & (program.tensor_indices == tensor)
    return np.flatnonzero(is_store)


def _check_never_stored(program: Program, tensor: int) -> None:
    stores = _stores(program, tensor)
    if stores.size:
        raise _fail(program, stores[0], "stores to an input")


def _check_stored_once(program: Program, tensor: int) -> None:
    info = program.tensors[tensor]
    stores = _stores(program, tensor)
    op_of_row, begin, end = _in_order(_rows(program, stores))
    overlap = begin[1:] < end[:-1]
    if overlap.any():
        later = op_of_row[1:][np.argmax(overlap)]
        raise _fail(program, later, f"stores a part of {info.name} that was stored already")
    if info.role == "output" and (end - begin).sum() != info.size_bytes:
        stored = int((end - begin).sum())
        raise ProgramError(
            f"{program.name}: output {info.name} has {info.size_bytes} B, but {stored} B are stored"
        )


def _in_order(rows: tuple[Words, Words, Words]) -> tuple[Words, Words, Words]:
    """Return the rows of `_rows` in the order of their addresses."""
    order = np.argsort(rows[1], kind="stable")
    return rows[0][order], rows[1][order], rows[2][order]


def _check_stored_before_loaded(program: Program, tensor: int) -> None:
    """Check every loaded row against the stored ones, which `_check_stored_once` found disjoint."""
    loads = np.flatnonzero((program.units == Unit.LOAD) & (program.tensor_indices == tensor))
    if not loads.size:
        return
    phase = np.repeat(program.item_phase, np.diff(program.item_start))
    op_of_row, begin, end = _rows(program, loads)
    store, stored_begin, stored_end = _in_order(_rows(program, _stores(program, tensor)))
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
