"""Functions of the elements or rows of a matrix, each as its own file records it."""

from accelsim.kernels import language as al
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.registry import function_called
from accelsim.kernels.vector.workspace import Workspace


class Vector(al.Kernel):
    """A function of elements or rows."""

    name = "vector"
    summary = "norms, activations, tables, choices: functions of rows, tile by tile"
    problem_kind = "vector"
    parameters = VectorParameters

    @classmethod
    def record(
        cls,
        problem: al.VectorProblem,
        machine: al.MachineSpec,
        parameters: VectorParameters,
        tensors: al.VectorTensors | None,
    ) -> tuple[al.Program, al.Array | None]:
        """Return the program and, with tensors, the result."""
        function = function_called(problem.function)
        tile, _ = function.choose(problem, machine, parameters)
        builder = al.ProgramBuilder(f"vector on {problem.name}", with_numbers=tensors is not None)
        at = Workspace(builder, problem, parameters, tile, tensors)
        program = builder.record(*function.loop(at)).with_parameters(**function.chosen(at))
        return program, None if tensors is None else function.output(problem, builder.data)

    @classmethod
    def estimated_cycles(
        cls, problem: al.VectorProblem, machine: al.MachineSpec, parameters: VectorParameters
    ) -> float:
        """Return the time that the chosen tile should take; raises DoesNotFitError."""
        return function_called(problem.function).choose(problem, machine, parameters)[1]

    @classmethod
    def oracle(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the result in float64."""
        return function_called(problem.function).exact(problem, tensors)
