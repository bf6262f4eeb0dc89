"""The operations of a feed-forward part that all rows go through."""

from collections.abc import Iterator

from accelsim.models.feed_forward import DenseFeedForward
from accelsim.models.operations.parts import Setting
from accelsim.workload.problem import Problem


def operations(part: DenseFeedForward, at: Setting) -> Iterator[Problem]:
    """Yield a product up, the activation and a product down; gate and way up are one product."""
    if not part.is_gated or part.activation != "silu":
        raise at.unknown(f"a feed-forward part with {part.activation}")
    yield at.product("gate-up", 2 * part.width, at.hidden)
    yield at.operand("silu_mul", part.width, name="activation")
    yield at.product("down", at.hidden, part.width)
