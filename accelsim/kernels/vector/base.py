"""What a vector function is to the kernel `vector`: tiles, a loop over them and a definition."""

from abc import ABC, abstractmethod
from typing import Any

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.tiles import Tile
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


class VectorFunction(ABC):
    """A function or several, whose tiles, loop and numbers stand in one file."""

    @classmethod
    @abstractmethod
    def choose(
        cls, problem: VectorProblem, machine: MachineSpec, asked: VectorParameters
    ) -> tuple[Tile, float]:
        """Return the fastest tile that fits, and its estimated time; raises DoesNotFitError."""

    @classmethod
    @abstractmethod
    def loop(cls, at: Workspace) -> tuple[Any, int, Any]:
        """Return the compiled loop over tiles, its work items and its layout."""

    @classmethod
    @abstractmethod
    def chosen(cls, at: Workspace) -> dict[str, int]:
        """Return the parameters that stand for a tile."""

    @classmethod
    def output(cls, problem: VectorProblem, data: dict[str, Array]) -> Array:
        """Return the result, of the data of all tensors by name: `result`, with the rows of x."""
        return data["result"].reshape(problem.rows, -1)

    @classmethod
    @abstractmethod
    def exact(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the result in float64."""

    @classmethod
    def exact_result(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return in float64 what is stored as `result`."""
        return cls.exact(problem, tensors)
