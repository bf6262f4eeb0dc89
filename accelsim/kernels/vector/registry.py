"""The vector functions by name."""

from accelsim.kernels.vector.base import VectorFunction
from accelsim.kernels.vector.matrix import MatrixFunction

_OWN: dict[str, type[VectorFunction]] = {}
"""Functions with a file of their own; all others are those of `MatrixFunction`."""


def function_called(name: str) -> type[VectorFunction]:
    """Return the function of that name."""
    return _OWN.get(name, MatrixFunction)
