"""Functions of the elements or rows of a matrix, each as its own file records it."""

from typing import ClassVar

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.integer.coded_output import group_factors, values_of_codes
from accelsim.kernels.vector.base import VectorFunction
from accelsim.kernels.vector.coded import check_coded
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.registry import function_called
from accelsim.kernels.vector.workspace import Workspace
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.long import AnyProgram
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
    ) -> tuple[AnyProgram, Array | None]:
        """Return the program and, with tensors, the result."""
        function, factors = _function_of(problem, parameters), None
        tile, _ = function.choose(problem, machine, parameters)
        if tensors is not None and parameters.form is not None:
            exact = function.exact_result(problem, tensors)
            factors = group_factors(parameters.form, exact, tensors.reader)
        builder = ProgramBuilder(f"vector on {problem.name}", with_numbers=tensors is not None)
        at = Workspace(builder, problem, parameters, tile, tensors, factors)
        program = builder.record(*function.loop(at)).with_parameters(**function.chosen(at))
        if tensors is None:
            return program, None
        data = builder.data
        if parameters.form is not None:
            data = {**data, "result": values_of_codes(data, "result", parameters.form, factors)}
        return program, function.output(problem, data)

    @classmethod
    def stored_dtypes(
        cls, problem: VectorProblem, parameters: VectorParameters
    ) -> dict[str, Format]:
        """Return the format of a coded result."""
        return parameters.stored_dtypes

    @classmethod
    def estimated_cycles(
        cls, problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
    ) -> float:
        """Return the time that the chosen tile should take; raises DoesNotFitError."""
        return _function_of(problem, parameters).choose(problem, machine, parameters)[1]

    @classmethod
    def oracle(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the result in float64."""
        return function_called(problem.function).exact(problem, tensors)


def _function_of(problem: VectorProblem, asked: VectorParameters) -> type[VectorFunction]:
    """Return the function of a problem; raises WorkloadError and QuantizationError for codes that
    it cannot store."""
    check_coded(problem, asked)
    return function_called(problem.function, is_coded=asked.form is not None)
