"""The operations of a feed-forward part that all rows go through."""

from collections.abc import Iterator

from accelsim.models.feed_forward import DenseFeedForward
from accelsim.models.operations.parts import Setting
from accelsim.workload.problem import Problem

_FUNCTIONS = {
    "silu": "silu",
    "relu": "relu",
    "relu2": "relu_squared",
    "gelu": "gelu",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
}
"""Activation of a config -> vector function. The exact gelu is computed in its tanh form."""
_GATED = {"silu": "silu_mul", "gelu": "gelu_mul"}
"""Function of a gate -> the function that multiplies the way up besides."""


def operations(part: DenseFeedForward, at: Setting) -> Iterator[Problem]:
    """Yield a product up, the activation and a product down; gate and way up are one product."""
    function = _FUNCTIONS.get(part.activation, "")
    function = _GATED.get(function, "") if part.is_gated else function
    if not function:
        kind = "gated " if part.is_gated else ""
        raise at.unknown(f"a {kind}feed-forward part with {part.activation}")
    if part.is_gated:
        yield at.product("gate-up", 2 * part.width, at.hidden)
    else:
        yield at.product("up", part.width, at.hidden)
    yield at.operand(function, part.width, name="activation")
    yield at.product("down", at.hidden, part.width)
