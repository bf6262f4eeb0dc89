"""What a step of a model costs on a system: the sum of its operations, and the host."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from accelsim.bench import Bench, Recorded
from accelsim.errors import AccelsimError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.system import SystemSpec
from accelsim.inference.step_clock import clock_of_step
from accelsim.library.recipe import Recipe
from accelsim.library.registry import library_of
from accelsim.models.architecture import Architecture
from accelsim.models.expert_load import UNIFORM, ExpertLoad
from accelsim.models.operations.parts import Operation
from accelsim.models.operations.step import operations_of
from accelsim.models.plan import Plan
from accelsim.models.step import Step
from accelsim.report.measured import Measured
from accelsim.report.report import Report
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    Problem,
)

_ACTIVATIONS = ("a", "x")
"""Inputs of a product that are no weights, as its kernels name them."""


@dataclass(frozen=True, slots=True)
class OperationCost:
    """An operation of a step and what one of it costs."""

    problem: Problem
    count: int
    report: Report

    @property
    def name(self) -> str:
        """Name of the problem."""
        return self.problem.name

    @property
    def measured(self) -> Measured:
        """What all of them cost."""
        return self.count * self.report

    @property
    def time_s(self) -> float:
        """Time of all of them."""
        return self.count * self.report.time_s


@dataclass(frozen=True)
class StepCost:
    """What a step costs."""

    step: Step
    operations: tuple[OperationCost, ...]
    host_s: float
    """Time that the device waits for the host."""

    @cached_property
    def measured(self) -> Measured:
        """What the device does: the sum of all operations."""
        return Measured.total((each.count, each.report) for each in self.operations)

    @property
    def model_macs(self) -> int:
        """MACs that the model asks for; kernels compute more, in whole tiles."""
        return sum(each.count * each.problem.macs for each in self.operations)

    @property
    def draw_spread(self) -> float:
        """Largest share by which an operation differs in time among the drawn loads of experts."""
        times: dict[str, list[float]] = {}
        for each in self.operations:
            if each.problem.kind == "grouped_gemm":
                times.setdefault(each.name, []).append(each.report.time_s)
        return max((max(each) / min(each) - 1 for each in times.values()), default=0.0)

    @property
    def time_s(self) -> float:
        """Time of the device and of the host."""
        return self.measured.time_s + self.host_s


def _check_kernel(recipe: Recipe | None, kind: str) -> None:
    """Refuse a kernel that is not known, is for other problems, or has other parameters."""
    if recipe is None:
        return
    found = recipe.algorithm.problem_kind
    if found != kind:
        raise WorkloadError(
            f"kernel {recipe.kernel} is for {found} problems, allowed: kernels for {kind} problems"
        )
    recipe.parameters()


@dataclass
class StepModel:
    """Costs of the steps of a model on a system, each operation simulated once."""

    architecture: Architecture
    system: SystemSpec
    machine: MachineSpec
    linear: Recipe | None = None
    """Kernel of the products; None: the library picks it."""
    attention: Recipe | None = None
    """Kernel of attention where it can take the tokens; None: the library picks it."""
    experts: ExpertLoad = UNIFORM
    """Which experts tokens choose, in a model that has some."""
    _known: dict[tuple[Problem, Recipe | None, float], Report] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        """Refuse kernels that are not known or are for other problems; raises an AccelsimError."""
        for name, recipe, kind in (
            ("linear", self.linear, "gemm"),
            ("attention", self.attention, "attention"),
        ):
            try:
                _check_kernel(recipe, kind)
            except AccelsimError as error:
                raise error.at(name) from None

    def cost(self, step: Step) -> StepCost:
        """Return what a step costs; raises an AccelsimError for what the machine cannot run."""
        operations = self._at_one_clock(self.operations(step))
        host, launches = self.system.host, sum(each.count for each in operations)
        requests = sum(each.count for each in step.sequences)
        host_s = (
            host.step.value
            + host.layer.value * len(self.architecture.layers)
            + host.request.value * requests
            + host.launch.value * launches
        )
        return StepCost(step, operations, host_s)

    @property
    def plan(self) -> Plan:
        """How steps are laid out on this machine."""
        return Plan(self.experts, gathers_rows=library_of(self.machine).gathers_rows)

    def operations(self, step: Step) -> tuple[Operation, ...]:
        """Return the operations of a step on this machine."""
        return operations_of(self.architecture, step, self.plan)

    def weight_bytes(self, step: Step) -> int:
        """Return the bytes of all weights in the formats that the kernels of a step store.

        A tied head that is stored as the embedding is counts once. Raises what the machine cannot
        run.
        """
        return self._bytes_of_products(step, lambda problem: len(problem.rows)) - self._tied(step)

    def _tied(self, step: Step) -> int:
        """Return the bytes that the head shares with the embedding: none in a format of its own."""
        if not self.architecture.has_tied_head:
            return 0
        problems = [each.problem for each in self.operations(step)]
        (head,) = (problem for problem in problems if problem.name == "head")
        stored = self._stored_bytes(head)
        return stored if stored == self.architecture.embedding_bytes else 0

    def weight_bytes_read(self, step: Step) -> int:
        """Return the bytes of the weights that a step reads: of experts those that have rows."""
        read = self._bytes_of_products(step, lambda problem: len(problem.used))
        return read - self.architecture.table_bytes

    def _bytes_of_products(self, step: Step, experts: Callable[[GroupedGemmProblem], int]) -> int:
        """Return the bytes of all weights; experts: how many of a product of experts count."""
        stored = self.architecture.outer_bytes
        for problem, count in ((each.problem, each.count) for each in self.operations(step)):
            if isinstance(problem, GemmProblem):
                stored += count * self._stored_bytes(problem)
            elif isinstance(problem, GroupedGemmProblem):
                one = self._stored_bytes(problem) // len(problem.used)
                stored += count * one * experts(problem)
        return stored

    def _stored_bytes(self, problem: Problem) -> int:
        """Return the bytes of weights as they are recorded, of experts those with rows."""
        recorded = next(Bench(self.machine, self.recipe_for(problem)).record(problem))
        return sum(
            tensor.size_bytes
            for tensor in recorded.program.tensors
            if tensor.role == "input" and tensor.name not in _ACTIVATIONS
        )

    def _at_one_clock(self, operations: tuple[Operation, ...]) -> tuple[OperationCost, ...]:
        """Return what operations cost at the clock at which all of them meet the power cap."""
        recorded: dict[Problem, Recorded] = {}

        def costs_at(clock: float) -> tuple[OperationCost, ...]:
            return tuple(
                OperationCost(each.problem, each.count, self._report(each.problem, clock, recorded))
                for each in operations
            )

        def runs_at(clock: float) -> list[tuple[int, Report]]:
            return [(each.count, each.report) for each in costs_at(clock)]

        return costs_at(clock_of_step(self.machine, runs_at))

    def _report(self, problem: Problem, clock: float, recorded: dict[Problem, Recorded]) -> Report:
        """Return what an operation costs at a clock; recorded: programs of the step so far."""
        recipe = self.recipe_for(problem)
        key = (problem, recipe, clock)
        if key not in self._known:
            bench = Bench(self.machine, recipe)
            if problem not in recorded:
                recorded[problem] = next(bench.record(problem))
            self._known[key] = bench.report_at(recorded[problem], clock)
        return self._known[key]

    def recipe_for(self, problem: Problem) -> Recipe | None:
        """Return what is asked for a problem; None: the library picks it."""
        if problem.kind == "gemm":
            return self.linear
        if isinstance(problem, AttentionProblem) and self.attention is not None:
            takes = self.attention.algorithm.query_rows
            return self.attention if takes == "any" or problem.most_queries == 1 else None
        return None


def time_by_operation(cost: StepCost) -> Mapping[str, float]:
    """Return the seconds of each kind of operation, and of the host."""
    times: dict[str, float] = {}
    for each in cost.operations:
        times[each.name] = times.get(each.name, 0.0) + each.time_s
    return {**times, "host": cost.host_s}


def sustained(machine: MachineSpec) -> MachineSpec:
    """Return the machine as it runs step after step: under the cap, without bursts of power."""
    if machine.power is None:
        return machine
    power = machine.power.model_copy(update={"duty": "sustained"})
    return machine.model_copy(update={"power": power})
