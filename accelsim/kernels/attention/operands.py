"""Q, K, V and the output in HBM, and the tiles from which the cube takes keys and values."""

from math import prod
from typing import NamedTuple

from accelsim.kernels.attention.precision import StepFormats
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit_inner
from accelsim.workload.attention import RowWidths
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class Operands(NamedTuple):
    """Q, K, V and the output, each a matrix of all heads one after the other."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor


def declare_operands(
    builder: ProgramBuilder,
    problem: AttentionProblem,
    tensors: AttentionTensors | None,
    q_rows_in_one: int = 1,
    *,
    is_coded: bool = False,
) -> Operands:
    """Place the operands of a problem in HBM.

    q_rows_in_one: rows of a query head that are one row of Q and of the output. is_coded: a coder
    has matrices for the output.
    """
    widths, dtypes = problem.widths, problem.input_dtypes

    def place(name: str, cols: int) -> Tensor:
        rows = prod(problem.input_shapes[name]) // cols
        data = None if tensors is None else getattr(tensors, name).reshape(-1, cols)
        return builder.tensor(name, "input", rows, cols, dtypes[name], data)

    q = place("q", widths.key * q_rows_in_one)
    k, v = place("k", widths.key), place("v", widths.value)
    if is_coded:
        return Operands(q, k, v, builder.no_tensor(problem.output_dtype))
    shape = (q.rows, widths.value * q_rows_in_one)
    return Operands(q, k, v, builder.tensor("o", "output", *shape, problem.output_dtype))


def scales_of(tensors: AttentionTensors | None) -> tuple[float, float]:
    """Return what K and V were divided by when they were stored; 1 where nothing is known."""
    return (1.0, 1.0) if tensors is None else (tensors.k_scale, tensors.v_scale)


def allocate_keys_and_values(
    builder: ProgramBuilder,
    widths: RowWidths,
    formats: StepFormats,
    rows: int,
    slots: int = 2,
    names: tuple[str, str] = ("k", "v"),
) -> dict[str, Buffer]:
    """Declare the tiles of keys and values: as they are loaded, and as the cube takes them."""

    def tiles(name: str, cols: int, operand: Format) -> tuple[Buffer, Buffer]:
        loaded = builder.buffer(name, rows, cols, formats.kv, slots=slots)
        if operand == formats.kv:
            return loaded, loaded
        return loaded, builder.buffer(f"{name}_operand", rows, cols, operand, slots=slots)

    keys, key_operands = tiles(names[0], widths.key, formats.keys)
    values, value_operands = tiles(names[1], widths.value, formats.values)
    return {
        "keys": keys,
        "values": values,
        "key_operands": key_operands,
        "value_operands": value_operands,
    }


@jit_inner
def as_cube_operand(p, loaded, operands, turn):
    """Return a tile of keys or values as the cube takes it; operands: the buffer for that."""
    if operands.fmt == loaded.fmt:
        return loaded
    operand = al.tile(operands, turn, loaded.rows, loaded.cols)
    al.convert(p, operand, loaded)
    return operand
