"""Q, K, V and the output in HBM, and the tiles from which the cube takes keys and values."""

from math import prod
from typing import Any, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.precision import StepFormats
from accelsim.workload.attention import RowWidths


class Operands(NamedTuple):
    """Q, K, V and the output, each a matrix of all heads one after the other."""

    q: al.Tensor
    k: al.Tensor
    v: al.Tensor
    o: al.Tensor
    sinks: al.Tensor
    """A logit of each query head, if there are."""


def declare_operands(
    builder: al.ProgramBuilder,
    problem: al.AttentionProblem,
    tensors: al.AttentionTensors | None,
    q_rows_in_one: int = 1,
    *,
    is_coded: bool = False,
) -> Operands:
    """Place the operands of a problem in HBM.

    q_rows_in_one: rows of a query head that are one row of Q and of the output. is_coded: a coder
    has matrices for the output.
    """
    widths, dtypes = problem.widths, problem.input_dtypes

    def place(name: str, cols: int) -> al.Tensor:
        rows = prod(problem.input_shapes[name]) // cols
        data = None if tensors is None else getattr(tensors, name).reshape(-1, cols)
        return builder.tensor(name, "input", rows, cols, dtypes[name], data)

    q = place("q", widths.key * q_rows_in_one)
    k = v = builder.no_tensor()
    if problem.kv_codes is None:
        k = place("k", widths.key)
        v = k if problem.values_in_keys else place("v", widths.value)
    sinks = place("sinks", 1) if problem.sink_logits else builder.no_tensor()
    if is_coded:
        return Operands(q, k, v, builder.no_tensor(problem.output_dtype), sinks)
    shape = (q.rows, widths.value * q_rows_in_one)
    return Operands(q, k, v, builder.tensor("o", "output", *shape, problem.output_dtype), sinks)


class TilesOf(NamedTuple):
    """Declares buffers whose tiles have the same number of rows."""

    builder: al.ProgramBuilder
    height: Any
    """Rows of a tile, in elements."""
    fmt: al.Format
    """Format of what is not said to have another one: that of the vector path."""
    prefix: str = ""
    """What all names begin with."""

    def __call__(
        self, name: str, cols: Any, fmt: al.Format | None = None, slots: int = 1
    ) -> al.Buffer:
        """Declare a buffer in the scratchpad."""
        fmt = fmt or self.fmt
        return self.builder.buffer(self.prefix + name, self.height, cols, fmt, slots=slots)

    def shared(
        self, buffer: al.Buffer, name: str, cols: Any, fmt: al.Format, slots: int = 1
    ) -> al.Buffer:
        """Return a buffer if it has that format, else declare another one."""
        return buffer if buffer.fmt == fmt.code else self(name, cols, fmt, slots)

    def sums(
        self, name: str, cols: Any, fmt: al.Format = al.Format.FP32, slots: int = 1
    ) -> al.Buffer:
        """Declare a buffer in the accumulator."""
        name, height = self.prefix + name, self.height
        return self.builder.buffer(name, height, cols, fmt, slots=slots, memory="accumulator")


def allocate_keys_and_values(
    builder: al.ProgramBuilder,
    widths: RowWidths,
    formats: StepFormats,
    rows: int,
    slots: int = 2,
    names: tuple[str, str] = ("k", "v"),
) -> dict[str, al.Buffer]:
    """Declare the tiles of keys and values: as they are loaded, and as the cube takes them.

    Values that are a part of the keys have none.
    """

    def tiles(name: str, cols: int, operand: al.Format) -> tuple[al.Buffer, al.Buffer]:
        loaded = builder.buffer(name, rows, cols, formats.kv, slots=slots)
        if operand == formats.kv:
            return loaded, loaded
        return loaded, builder.buffer(f"{name}_operand", rows, cols, operand, slots=slots)

    keys, key_operands = tiles(names[0], widths.key, formats.keys)
    values, value_operands = keys, key_operands
    if not formats.values_in_keys:
        values, value_operands = tiles(names[1], widths.value, formats.values)
    return {
        "keys": keys,
        "values": values,
        "key_operands": key_operands,
        "value_operands": value_operands,
    }


@al.jit_inner
def as_cube_operand(p, loaded, operands, turn):
    """Return a tile of keys or values as the cube takes it; operands: the buffer for that."""
    if operands.fmt == loaded.fmt:
        return loaded
    operand = al.tile(operands, turn, loaded.rows, loaded.cols)
    al.convert(p, operand, loaded)
    return operand
