"""What a DMA op moves: rows of bytes in HBM, by first address and step or by row number."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import FIELD_MASK, HEAD, TENSOR_MASK, TENSOR_SHIFT, A, B, C, D, Op
from accelsim.program.program import Declared, Words
from accelsim.runtime.jit import jit, jit_inner

_GATHER, _STORE = Op.GATHER.value, Op.STORE.value
_NO_INDEX = -1


class Transfer(NamedTuple):
    """`rows` runs of `row_bytes` bytes each."""

    address: int
    """First byte of row 0."""
    rows: int
    row_bytes: int
    step_bytes: int
    """Bytes from each row to the next; in a gather, from each row of the tensor to the next."""
    first_index: int
    """Place of the first row number among `Program.gathered_rows`; negative if rows follow."""
    is_write: bool


def row_pitches(program: Declared) -> Words:
    """Return the bytes from row to row of every tensor."""
    return np.array([tensor.row_bytes for tensor in program.tensors], np.int64)


@jit
def transfer_of(ops: npt.NDArray[np.int64], index: int, pitches: npt.NDArray[np.int64]) -> Transfer:
    """Return what op `index` moves, a load, gather or store; pitches: see `row_pitches`."""
    op = ops[index, HEAD] & FIELD_MASK
    step, first_index = ops[index, D], _NO_INDEX
    if op == _GATHER:
        first_index = step
        step = pitches[(ops[index, HEAD] >> TENSOR_SHIFT) & TENSOR_MASK]
    return Transfer(ops[index, A], ops[index, B], ops[index, C], step, first_index, op == _STORE)


@jit_inner
def row_address(transfer: Transfer, row: int, gathered_rows: npt.NDArray[np.int64]) -> int:
    """Return the address of the first byte of row `row`."""
    number = row
    if transfer.first_index >= 0:
        number = gathered_rows[transfer.first_index + row]
    return transfer.address + number * transfer.step_bytes
