"""The library of Hopper: what cuBLAS, cuDNN and PyTorch run, which the H200's validation holds."""

from typing import ClassVar

from accelsim.hardware.machine import MachineSpec
from accelsim.library.base import Hardware, Library
from accelsim.library.hopper.experts import FUSED, PREPARED, fused, grouped_gemm, prepared
from accelsim.library.hopper.matrix import WARPS, attention, gemm, of_warps
from accelsim.library.hopper.vector import EAGER_FUNCTIONS, plain_code
from accelsim.library.recipe import CODE, Recipe
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    Problem,
    VectorProblem,
)

EAGER = "eager"
"""Plain code: blocks of threads load what they need themselves."""


class Hopper(Library):
    """Products and attention fused for Hopper, vector functions as eager PyTorch has them."""

    name: ClassVar[str] = "hopper"
    summary: ClassVar[str] = "what cuBLAS, cuDNN and eager PyTorch run on Hopper GPUs"
    tries: ClassVar[bool] = False
    """A heuristic picks tiles in cuBLAS and cuDNN too, without a run."""
    gathers_rows: ClassVar[bool] = True
    codes: ClassVar[tuple[str, ...]] = (EAGER, WARPS, FUSED, PREPARED)

    def recipe(self, problem: Problem, machine: MachineSpec) -> Recipe:
        """Return the kernel of a problem."""
        if isinstance(problem, AttentionProblem):
            return attention(problem, machine)
        if isinstance(problem, GemmProblem):
            return gemm(problem)
        if isinstance(problem, GroupedGemmProblem):
            return grouped_gemm(problem)
        if problem.function not in EAGER_FUNCTIONS:
            return Recipe("vector")
        code = plain_code(problem, machine)
        return Recipe("vector", **code.settings, **{CODE: EAGER})

    def completed(self, asked: Recipe, problem: Problem, machine: MachineSpec) -> Recipe:
        """Return what is asked; a kernel of the library keeps its parameters beside them."""
        own = self.recipe(problem, machine)
        return own.updated(asked.settings) if asked.kernel == own.kernel else asked

    def hardware(self, problem: Problem, recipe: Recipe, hardware: Hardware) -> Hardware:
        """Return the GPU as the code of a recipe uses it."""
        hardware = super().hardware(problem, recipe, hardware)
        if recipe.code == WARPS:
            return of_warps(hardware, problem)
        if recipe.code == FUSED and isinstance(problem, GroupedGemmProblem):
            return fused(hardware, problem, recipe)
        if recipe.code == PREPARED:
            return prepared(hardware)
        if recipe.code == EAGER and isinstance(problem, VectorProblem):
            return plain_code(problem, hardware.machine).on(hardware)
        return hardware
