"""What a model holds in the memory of a device, and what fits."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelsim.errors import DoesNotFitError
from accelsim.inference.cost import StepModel
from accelsim.inference.stored_weights import stages
from accelsim.models.architecture import Architecture
from accelsim.models.expert_load import Balanced
from accelsim.models.operations.step import operations_of
from accelsim.models.plan import Plan
from accelsim.models.step import Step
from accelsim.report.quantity import quantity_of
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.collective import Collective
from accelsim.workload.problem import Problem
from accelsim.workload.vector import VectorProblem

_LASTING = {
    "gemm": ("b",),
    "grouped_gemm": ("b",),
    "attention": ("k", "v", "sinks"),
}
"""Tensors of a problem that are there before a step or after it: weights and caches."""

_PLAN = Plan(Balanced())
"""Rows of all experts together are as many in every load; this one is not drawn."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of a device that a model takes."""

    capacity_bytes: int
    weights_bytes: int
    kv_bytes: int
    """Keys and values of all sequences at their longest."""
    activation_bytes: int
    """Rows between layers, and the operands and results of the operation that has most of them."""

    @property
    def free_bytes(self) -> int:
        """What is left; below 0 it does not fit."""
        return self.capacity_bytes - self.weights_bytes - self.kv_bytes - self.activation_bytes


def memory_use(
    architecture: Architecture,
    capacity_bytes: int,
    weights_bytes: int,
    steps: Callable[[int], Sequence[Step]],
    batch: int,
    tokens: int,
) -> MemoryUse:
    """Return what `batch` sequences of `tokens` tokens take, computed in such steps.

    Of a plan over devices, `architecture` and the bytes of the weights are the share of one.
    """
    return MemoryUse(
        capacity_bytes=capacity_bytes,
        weights_bytes=weights_bytes,
        kv_bytes=batch * architecture.kv_bytes(tokens, architecture.cached_format),
        activation_bytes=max(_activation_bytes(architecture, step) for step in steps(batch)),
    )


def device_use(
    costs: StepModel, steps: Callable[[int], Sequence[Step]], tokens: int
) -> Callable[[int], MemoryUse]:
    """Return what so many sequences of `tokens` tokens take of the fullest device of a plan.

    steps: the steps of so many sequences that may need most.
    """
    data, micro = costs.parallel.data, costs.parallel.microbatches
    # The same for any step. One of many sequences may not fit, which is to be told of that many.
    parts = stages(costs, Step.decode(data, tokens - 1))

    def use_of(sequences: int) -> MemoryUse:
        uses = (
            memory_use(
                share,
                costs.machine.hbm.capacity,
                weights_bytes,
                lambda count: steps(ceil_div(count, micro)),
                ceil_div(sequences, data),
                tokens,
            )
            for share, weights_bytes in parts
        )
        return min(uses, key=lambda use: use.free_bytes)

    return use_of


def largest_batch(use: Callable[[int], MemoryUse]) -> int:
    """Return how many sequences fit; use: what so many take, more for each."""
    if use(1).free_bytes < 0:
        return 0
    most = 1
    while use(2 * most).free_bytes >= 0:
        most *= 2
    return (
        bisect_right(range(most, 2 * most), False, key=lambda b: use(b).free_bytes < 0) + most - 1
    )


def check_fits(use: MemoryUse, largest: int, batch: int, system: str) -> None:
    """Refuse what does not fit, with what is short; raises DoesNotFitError."""
    if use.free_bytes >= 0:
        return
    shown = quantity_of("x_bytes").show
    hint = (
        f"the largest batch that fits is {largest}"
        if largest
        else "not even one sequence fits; choose a smaller model, other formats, or more devices"
    )
    raise DoesNotFitError(
        f"system {system}: needs {shown(use.capacity_bytes - use.free_bytes)} for batch {batch} "
        f"({shown(use.weights_bytes)} weights, {shown(use.kv_bytes)} KV cache, "
        f"{shown(use.activation_bytes)} activations), has {shown(use.capacity_bytes)}, "
        f"{shown(-use.free_bytes)} short; {hint}"
    )


def _activation_bytes(architecture: Architecture, step: Step) -> int:
    rows = step.tokens * architecture.hidden * architecture.weights.plain.bits // BITS_PER_BYTE
    operations = operations_of(architecture, step, _PLAN)
    return rows + max(
        _working_bytes(each.problem)
        for each in operations
        if not isinstance(each.problem, Collective)
    )


def _working_bytes(problem: Problem) -> int:
    """Return the bytes of operands and results that are no weights, tables or caches."""
    if isinstance(problem, VectorProblem):
        return sum(problem.moved_bytes.values())
    lasting = _LASTING.get(problem.kind, ())
    return sum(size for name, size in problem.tensor_bytes.items() if name not in lasting)
