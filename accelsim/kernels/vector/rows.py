"""Functions of the elements or rows of a matrix, each as its own file records it."""

from typing import ClassVar

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.registry import function_called
from accelsim.kernels.vector.workspace import Workspace
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


class Vector(Kernel):
    """A function of elements or rows."""

    name: ClassVar[str] = "vector"
    summary: ClassVar[str] = "norms, activations, tables, choices: functions of rows, tile by tile"
    problem_kind: ClassVar[str] = "vector"
    parameters: ClassVar[type[Spec]] = VectorParameters

    @classmethod
    def record(
        cls,
        problem: VectorProblem,
        machine: MachineSpec,
        parameters: VectorParameters,
        tensors: VectorTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the result."""
        function = function_called(problem.function)
        tile, _ = function.choose(problem, machine, parameters)
        builder = ProgramBuilder(f"vector on {problem.name}", with_numbers=tensors is not None)
        at = Workspace(builder, problem, parameters, tile, tensors)
        program = builder.record(*function.loop(at)).with_parameters(**function.chosen(at))
        return program, None if tensors is None else function.output(problem, builder.data)

    @classmethod
    def estimated_cycles(
        cls, problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
    ) -> float:
        """Return the time that the chosen tile should take; raises DoesNotFitError."""
        return function_called(problem.function).choose(problem, machine, parameters)[1]

    @classmethod
    def oracle(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the result in float64."""
        return function_called(problem.function).exact(problem, tensors)
