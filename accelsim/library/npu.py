"""The library of NPUs: kernels whose copies are asynchronous and whose tiles are chosen.

Kernels choose their tiles by their own estimates. The library chooses among kernels by the same
estimates: a decode step has one query row for each head, so its keys are split over the cores,
unless folding the heads of a group into the rows of a tile is clearly faster. A draft, a few new
tokens behind a cache, is split where that is clearly faster: few heads leave cores without work.
More new tokens are a prefill, also of some sequences beside others with one.
"""

from math import inf
from typing import ClassVar

from accelsim.errors import DoesNotFitError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.base import Library
from accelsim.library.recipe import Recipe
from accelsim.workload.problem import AttentionProblem, GemmProblem, GroupedGemmProblem, Problem

_CLEARLY = 0.015
"""Share of the time by which estimates have to differ: they are no better than that."""
_LONGEST_DRAFT = 8
"""New tokens of a sequence up to which both were simulated. Of 240 drafts of 2 to 8 tokens behind
40 to 20,000 keys on the Ascend machines, what is picked takes 0.4 % longer than the other in the
mean; 6 take more than 5 % longer, at most 8 %, or 19 % where the HBM has banks."""


class Npu(Library):
    """Exact kernels where there is a matrix unit, integer ones where there is only an array."""

    name: ClassVar[str] = "npu"
    summary: ClassVar[str] = "kernels of NPUs with asynchronous copies; tiles by estimate"

    def recipe(self, problem: Problem, machine: MachineSpec) -> Recipe:
        """Return the kernel of a problem."""
        has_array_only = machine.cube is None and machine.int_mac is not None
        if isinstance(problem, AttentionProblem):
            return _on_array(problem, machine) if has_array_only else _attention(problem, machine)
        if isinstance(problem, GemmProblem):
            return Recipe(_integer_linear(machine) if has_array_only else "gemm")
        return Recipe("grouped_gemm" if isinstance(problem, GroupedGemmProblem) else "vector")


def _on_array(problem: AttentionProblem, machine: MachineSpec) -> Recipe:
    """Return attention in integers; raises WorkloadError for K and V that it cannot read."""
    if not problem.has_plain_kv and not problem.values_in_keys:
        raise WorkloadError(
            f"workload {problem.name}: machine {machine.name} cannot read K in "
            f"{problem.kv_codes or problem.kv_format} with rows of {problem.head_dim} and V with "
            f"rows of {problem.widths.value} elements: it has no matrix unit, and its integer "
            f"array reads K and V of the format and width of Q, allowed: {problem.dtype}, with "
            f"rows of {problem.head_dim}"
        )
    return Recipe("int_flash")


def _integer_linear(machine: MachineSpec) -> str:
    """Return the linear that an integer array is built for: one that aligns has MXINT8."""
    can_align = machine.int_mac is not None and machine.int_mac.can_align
    return "mx" if can_align else "quantized"


def _attention(problem: AttentionProblem, machine: MachineSpec) -> Recipe:
    """Return flash for a prompt; for a step and for a draft, what is estimated to be faster.

    A step is for the decode kernel unless flash is clearly faster, and a draft the other way round.
    Of a generation the last step decides, which sees the most keys.
    """
    if problem.values_in_keys:
        # Query tiles of the same latents follow each other, so that an L2 reads these once.
        is_short = problem.most_queries <= _LONGEST_DRAFT
        ranges = {"splits": "chosen"} if is_short else {}
        return Recipe("flash", order="by_head", **ranges)
    flash, decode = Recipe("flash"), Recipe("split_kv")
    if problem.kv_codes is not None:
        return decode
    if problem.window is not None and problem.most_queries > 1:
        return flash
    if problem.most_queries > _LONGEST_DRAFT or problem.fewest_queries < problem.most_queries:
        return flash
    last = problem.at_step(problem.steps - 1)
    folded, split = (_estimated_cycles(each, last, machine) for each in (flash, decode))
    if problem.most_queries > 1:
        return decode if split < (1 - _CLEARLY) * folded else flash
    return flash if folded < (1 - _CLEARLY) * split else decode


def _estimated_cycles(recipe: Recipe, problem: AttentionProblem, machine: MachineSpec) -> float:
    """Return the estimate of a kernel with its own tiles; infinite for what does not fit."""
    try:
        return recipe.estimated_cycles(problem, machine)
    except DoesNotFitError:
        return inf
