"""What a kernel is: one algorithm, its parameters, and how it becomes a recorded program."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy.typing as npt

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.program import Program

Array = npt.NDArray[Any]


class Kernel(ABC):
    """One algorithm.

    Contract: `record` runs the dataflow loop once and returns its program and, when tensors are
    given, its output; it is deterministic and knows nothing about time. `oracle` is the float64
    result that the output is judged by. Kernels never import the engine.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    problem_kind: ClassVar[str]
    is_exact: ClassVar[bool] = True
    """Whether the algorithm computes the oracle's function up to rounding."""
    parameters: ClassVar[type[Spec]]

    @classmethod
    @abstractmethod
    def record(
        cls, problem: Any, machine: MachineSpec, parameters: Any, tensors: Any | None
    ) -> tuple[Program, Array | None]:
        """Return the program for a problem on a machine and, with tensors, the output.

        Raises DoesNotFitError when the tiles do not fit the machine.
        """

    @classmethod
    @abstractmethod
    def oracle(cls, problem: Any, tensors: Any) -> Array:
        """Return the result in float64."""
