"""A linear map of a layer, which holds most of what a model is made of."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matrix:
    """Some matrices of inputs x outputs, each with a bias of `outputs` or without."""

    module: str
    """Its name below the layer, as checkpoints of Hugging Face have it; `*` for an expert."""
    inputs: int
    outputs: int
    has_bias: bool = False
    copies: int = 1
    used: int | None = None
    """Copies that one token uses; None: all of them."""

    @property
    def parameters(self) -> int:
        """Numbers in all copies."""
        return self.copies * self._each

    @property
    def active_parameters(self) -> int:
        """Numbers that one token meets."""
        return (self.copies if self.used is None else self.used) * self._each

    @property
    def _each(self) -> int:
        return (self.inputs + self.has_bias) * self.outputs


def total_parameters(matrices: Iterable[Matrix]) -> int:
    """Return the numbers in all of them."""
    return sum(matrix.parameters for matrix in matrices)


def total_active_parameters(matrices: Iterable[Matrix]) -> int:
    """Return the numbers that one token meets."""
    return sum(matrix.active_parameters for matrix in matrices)
