"""The vector functions on one tile: from operands `x` and `y` to a result in `x`.

Reductions run along rows. `column` has one number for each row of x, `work` is as large as x.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.softcap import cap_scores
from accelsim.kernels.vector.operands import Operand

FUNCTIONS = (
    *("copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu", "silu_mul"),
    *("gelu_mul", "relu", "relu_squared", "softcap"),
)
COPY, SOFTMAX, RMSNORM, LAYERNORM, GELU, SILU, SILU_MUL = range(7)
GELU_MUL, RELU, RELU_SQUARED, SOFTCAP = range(7, len(FUNCTIONS))
PRODUCTS = ("silu_mul", "gelu_mul")
"""Functions of x that multiply y: activations of gated feed-forward parts."""

_TANH_SCALE = float(2 * np.sqrt(2 / np.pi))
_TANH_CUBIC = 0.044715
"""gelu(x) = x / (1 + exp(-a x (1 + b x^2))), the tanh form of Hendrycks and Gimpel (2016)."""


class Layout(NamedTuple):
    """A function, sizes in elements, operands, and what the function needs besides."""

    function: int
    """Place in FUNCTIONS."""
    has_factor: bool
    """Whether y multiplies the function of x."""
    epsilon: float
    softcap: float
    """What elements are capped by; 0: nothing."""
    tile_rows: int
    tile_cols: int
    x: Operand
    y: Operand
    result: Operand
    """Computed in the tiles of x."""
    column: al.Buffer
    work: al.Buffer


@al.jit_inner
def apply(p, x, y, column, work, k):
    """Compute a function of FUNCTIONS; its result is in x."""
    function, epsilon = k.function, k.epsilon
    if function == SOFTMAX:
        softmax(p, x, column)
    elif function == RMSNORM:
        divide_by_root_mean_square(p, x, work, column, epsilon)
    elif function == LAYERNORM:
        subtract_mean(p, x, column)
        divide_by_root_mean_square(p, x, work, column, epsilon)
    elif function in (GELU, GELU_MUL):
        _gelu(p, x, work)
    elif function in (SILU, SILU_MUL):
        al.scale(p, work, x, -1.0)
        _divide_by_one_plus_exp(p, x, work)
    elif function in (RELU, RELU_SQUARED):
        al.maximum_scalar(p, x, x, 0.0)
        if function == RELU_SQUARED:
            al.multiply(p, x, x, x)
    elif function == SOFTCAP:
        cap_scores(p, x, k.softcap)
    if k.has_factor:
        al.multiply(p, x, x, y)


@al.jit_inner
def softmax(p, x, column):
    """x = its softmax along rows."""
    al.row_max(p, column, x)
    al.subtract_column(p, x, x, column)
    al.exp(p, x, x)
    al.row_sum(p, column, x)
    al.divide_column(p, x, x, column)


@al.jit_inner
def subtract_mean(p, x, column):
    """Take the mean of each row of x off, in place."""
    al.row_sum(p, column, x)
    al.scale(p, column, column, 1 / x.cols)
    al.subtract_column(p, x, x, column)


@al.jit_inner
def divide_by_root_mean_square(p, x, squares, column, epsilon):
    """Divide each row of x by the root of its mean square plus epsilon, in place."""
    al.multiply(p, squares, x, x)
    al.row_sum(p, column, squares)
    root_of_mean(p, column, x.cols, epsilon)
    al.divide_column(p, x, x, column)


@al.jit_inner
def root_of_mean(p, column, cols, epsilon):
    """Turn sums of squares along rows of `cols` elements into what norms divide by, in place."""
    al.scale(p, column, column, 1 / cols)
    al.add_scalar(p, column, column, epsilon)
    al.square_root(p, column, column)


@al.jit_inner
def _gelu(p, x, work):
    al.multiply(p, work, x, x)
    al.scale(p, work, work, -_TANH_SCALE * _TANH_CUBIC)
    al.add_scalar(p, work, work, -_TANH_SCALE)
    al.multiply(p, work, work, x)
    _divide_by_one_plus_exp(p, x, work)


@al.jit_inner
def _divide_by_one_plus_exp(p, x, exponent):
    """x = x / (1 + e^exponent), which a logistic function multiplies with."""
    al.exp(p, exponent, exponent)
    al.add_scalar(p, exponent, exponent, 1.0)
    al.divide(p, x, x, exponent)
