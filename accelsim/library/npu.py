"""The library of NPUs: kernels whose copies are asynchronous and whose tiles are chosen.

Kernels choose their tiles by their own estimates; the library chooses among kernels. Which kernel
suits follows from the units of the machine and from the shape: a decode step has one query row for
each head, so its keys are split over the cores; a prefill has rows enough.
"""

from typing import ClassVar

from accelsim.hardware.machine import MachineSpec
from accelsim.library.base import Library
from accelsim.library.recipe import Recipe
from accelsim.workload.problem import AttentionProblem, GemmProblem, Problem


class Npu(Library):
    """Exact kernels where there is a matrix unit, integer ones where there is only an array."""

    name: ClassVar[str] = "npu"
    summary: ClassVar[str] = "kernels of NPUs with asynchronous copies; tiles by estimate"

    def recipe(self, problem: Problem, machine: MachineSpec) -> Recipe:
        """Return the kernel of a problem."""
        if isinstance(problem, AttentionProblem):
            return _attention(problem, machine)
        if isinstance(problem, GemmProblem):
            return Recipe("gemm" if machine.cube or not machine.int_mac else "quantized")
        return Recipe("vector")


def _attention(problem: AttentionProblem, machine: MachineSpec) -> Recipe:
    if machine.cube is None and machine.int_mac:
        return Recipe("int_flash")
    return Recipe("split_kv" if problem.q_len == 1 else "flash")
