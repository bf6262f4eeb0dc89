"""What a vector function is to the kernel `vector`: a program, an estimate and a definition."""

from abc import ABC, abstractmethod

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array
from accelsim.program.program import Program
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


class VectorParameters(Spec):
    """Choices of the vector kernel."""

    tile_rows: Size | None = None
    """Rows of a tile of a row function; absent: chosen."""
    tile_cols: Size | None = None
    """Columns of a step of a row function, whose rows are then read twice; absent: whole rows on
    chip, or chosen where these do not fit or take longer."""
    stages: Size = 2
    """Steps or tiles of the operands on chip at a time, one in use and the others on their way."""
    tile_elements: Size | None = None
    """Elements of a tile of an element-wise function; absent: chosen."""


class VectorFunction(ABC):
    """A function or several, whose tiles, loop and numbers stand in one file."""

    @classmethod
    @abstractmethod
    def record(
        cls,
        problem: VectorProblem,
        machine: MachineSpec,
        parameters: VectorParameters,
        tensors: VectorTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the result; raises DoesNotFitError."""

    @classmethod
    @abstractmethod
    def estimated_cycles(
        cls, problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
    ) -> float:
        """Return the time that the chosen tile should take; raises DoesNotFitError."""

    @classmethod
    @abstractmethod
    def exact(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the result in float64."""
