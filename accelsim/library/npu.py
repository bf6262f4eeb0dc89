"""The library of NPUs: kernels whose copies are asynchronous and whose tiles are chosen.

Kernels choose their tiles by their own estimates. The library chooses among kernels by the same
estimates: a decode step has one query row for each head, so its keys are split over the cores, or
the heads of a group are folded into the rows of a tile. Several new tokens are one pass, a prefill.
"""

from typing import ClassVar

from accelsim.errors import DoesNotFitError
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
        has_array_only = machine.cube is None and machine.int_mac is not None
        if isinstance(problem, AttentionProblem):
            return Recipe("int_flash") if has_array_only else _attention(problem, machine)
        if isinstance(problem, GemmProblem):
            return Recipe("quantized" if has_array_only else "gemm")
        return Recipe("vector")


def _attention(problem: AttentionProblem, machine: MachineSpec) -> Recipe:
    """Return the exact kernel of the lowest estimated time."""
    kernels = ("split_kv", "flash") if problem.q_len == 1 else ("flash",)
    recipes = [Recipe(kernel) for kernel in kernels]
    return min(recipes, key=lambda recipe: _estimated_cycles(recipe, problem, machine))


def _estimated_cycles(recipe: Recipe, problem: AttentionProblem, machine: MachineSpec) -> float:
    """Return the estimate of a kernel with its own tiles; what does not fit is never chosen."""
    try:
        return recipe.estimated_cycles(problem, machine)
    except DoesNotFitError:
        return float("inf")
