"""The vector functions on one tile: from operands in `x` and `y` to a result in `x`.

`b` are the `Buffers` of the kernel, in the format of the vector path. Reductions run along rows.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.jit import jit_inner
from accelsim.program.old.language import (
    divide_column,
    exp,
    multiply,
    row_max,
    row_sum,
    scale,
    subtract_column,
    tile,
)
from accelsim.program.old.row_ops import add_scalar, divide, square_root

FUNCTIONS = ("copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu_mul")
COPY, SOFTMAX, RMSNORM, LAYERNORM, GELU, SILU_MUL = range(len(FUNCTIONS))

_TANH_SCALE = float(2 * np.sqrt(2 / np.pi))
_TANH_CUBIC = 0.044715
"""gelu(x) = x / (1 + exp(-a x (1 + b x^2))), the tanh form of Hendrycks and Gimpel (2016)."""


class Buffers(NamedTuple):
    """On-chip tiles; `x` and `y` hold operands on the vector path."""

    x_stored: Any
    y_stored: Any
    x: Any
    y: Any
    work: Any
    stored: Any
    column: Any


@jit_inner
def apply(p, function, x, y, rows, cols, shape, fmt, b):
    """Compute a function of FUNCTIONS; its result is in x."""
    if function == SOFTMAX:
        _softmax(p, x, rows, cols, fmt, b)
    elif function == RMSNORM:
        _divide_by_root_mean_square(p, x, rows, cols, shape, fmt, b)
    elif function == LAYERNORM:
        _subtract_mean(p, x, rows, cols, shape, fmt, b)
        _divide_by_root_mean_square(p, x, rows, cols, shape, fmt, b)
    elif function == GELU:
        _gelu(p, x, rows, cols, fmt, b)
    elif function == SILU_MUL:
        _silu(p, x, rows, cols, fmt, b)
        multiply(p, x, x, y, rows, cols, fmt)


@jit_inner
def _softmax(p, x, rows, cols, fmt, b):
    column = tile(b.column, 0)
    row_max(p, column, x, rows, cols, fmt)
    subtract_column(p, x, x, column, rows, cols, fmt)
    exp(p, x, x, rows, cols, fmt)
    row_sum(p, column, x, rows, cols, fmt)
    divide_column(p, x, x, column, rows, cols, fmt)


@jit_inner
def _subtract_mean(p, x, rows, cols, shape, fmt, b):
    mean = tile(b.column, 0)
    row_sum(p, mean, x, rows, cols, fmt)
    scale(p, mean, mean, shape.inverse_cols, rows, 1, fmt)
    subtract_column(p, x, x, mean, rows, cols, fmt)


@jit_inner
def _divide_by_root_mean_square(p, x, rows, cols, shape, fmt, b):
    squares, root = tile(b.work, 0), tile(b.column, 0)
    multiply(p, squares, x, x, rows, cols, fmt)
    row_sum(p, root, squares, rows, cols, fmt)
    root_of_mean(p, root, rows, shape, fmt)
    divide_column(p, x, x, root, rows, cols, fmt)


@jit_inner
def root_of_mean(p, column, rows, shape, fmt):
    """Turn sums of squares along rows into what norms divide by, in place."""
    scale(p, column, column, shape.inverse_cols, rows, 1, fmt)
    add_scalar(p, column, column, shape.epsilon, rows, 1, fmt)
    square_root(p, column, column, rows, 1, fmt)


@jit_inner
def _gelu(p, x, rows, cols, fmt, b):
    work = tile(b.work, 0)
    multiply(p, work, x, x, rows, cols, fmt)
    scale(p, work, work, -_TANH_SCALE * _TANH_CUBIC, rows, cols, fmt)
    add_scalar(p, work, work, -_TANH_SCALE, rows, cols, fmt)
    multiply(p, work, work, x, rows, cols, fmt)
    _divide_by_one_plus_exp(p, x, work, rows, cols, fmt)


@jit_inner
def _silu(p, x, rows, cols, fmt, b):
    work = tile(b.work, 0)
    scale(p, work, x, -1.0, rows, cols, fmt)
    _divide_by_one_plus_exp(p, x, work, rows, cols, fmt)


@jit_inner
def _divide_by_one_plus_exp(p, x, exponent, rows, cols, fmt):
    """x = x / (1 + e^exponent), which a logistic function multiplies with."""
    exp(p, exponent, exponent, rows, cols, fmt)
    add_scalar(p, exponent, exponent, 1.0, rows, cols, fmt)
    divide(p, x, x, exponent, rows, cols, fmt)
