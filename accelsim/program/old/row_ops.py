"""More of the kernel language: element-wise steps of activations and norms beside `language`."""

from accelsim.jit import jit_inner
from accelsim.numerics import elementwise as arithmetic
from accelsim.program.old.recording import Recorder, Tile, record_map, record_pair
from accelsim.program.ops import Op

_ADD, _DIVIDE, _ROOT = Op.ADD.value, Op.DIVIDE.value, Op.SQUARE_ROOT.value


@jit_inner
def add_scalar(
    p: Recorder, dst: Tile, src: Tile, amount: float, rows: int, cols: int, fmt: int
) -> None:
    """dst = src plus one scalar of format `fmt`."""
    if record_map(p, _ADD, fmt, dst, rows, cols, src, rows, cols):
        arithmetic.add_scalar(dst.data, src.data, amount, rows, cols, fmt)


@jit_inner
def divide(p: Recorder, dst: Tile, a: Tile, b: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = a / b, element by element."""
    if record_pair(p, _DIVIDE, fmt, dst, a, b, rows, cols, rows, cols):
        arithmetic.divide(dst.data, a.data, b.data, rows, cols, fmt)


@jit_inner
def square_root(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = square root of src."""
    if record_map(p, _ROOT, fmt, dst, rows, cols, src, rows, cols):
        arithmetic.square_root(dst.data, src.data, rows, cols, fmt)
