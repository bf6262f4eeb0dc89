"""What a step of a model costs on a system: the sum of its operations, and the host."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from accelsim.config.sample import Sample
from accelsim.errors import SampleError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.system import SystemSpec
from accelsim.inference.remembered import RememberedCosts
from accelsim.inference.step_clock import clock_of_step
from accelsim.library.recipe import Recipe
from accelsim.library.registry import library_of
from accelsim.models.architecture import Architecture
from accelsim.models.expert_load import UNIFORM, ExpertLoad
from accelsim.models.operations.parts import Operation
from accelsim.models.operations.step import operations_of
from accelsim.models.plan import Plan
from accelsim.models.step import Step
from accelsim.report.measured import Measured, has_unseen_traffic, total_of
from accelsim.report.report import Report
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    Problem,
)

if TYPE_CHECKING:
    from accelsim.bench import Recorded

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

    @cached_property
    def device_s(self) -> float:
        """Time of the device alone."""
        return float(self._total("seconds"))

    @cached_property
    def energy_j(self) -> float:
        """Energy of the device."""
        return sum(map(float, self._total("joules").values()))

    @cached_property
    def off_s(self) -> float:
        """Half of the 95 % interval of the time; 0 where all ops were scheduled."""
        return float(self._total("sampled").get("seconds", 0))

    def _total(self, name: str) -> Any:
        return total_of(name, [(each.count, each.report) for each in self.operations])

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
        return self.device_s + self.host_s


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
    sample: Sample = "never"
    """How much of a program is scheduled."""
    _known: dict[tuple[Problem, Recipe | None, float], Report] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def remembered(self) -> RememberedCosts:
        """Costs on the machine that were simulated before."""
        return RememberedCosts(self.machine)

    def __post_init__(self) -> None:
        """Refuse kernels that are for other problems; raises WorkloadError."""
        for name, recipe, kind in (
            ("linear", self.linear, "gemm"),
            ("attention", self.attention, "attention"),
        ):
            if recipe is not None and recipe.algorithm.problem_kind != kind:
                found = recipe.algorithm.problem_kind
                raise WorkloadError(
                    f"{name}: kernel {recipe.kernel} is for {found} problems, "
                    f"allowed: kernels for {kind} problems"
                )

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
        recipe = self.recipe_for(problem)

        def count() -> int:
            program = self._recorded(problem, recipe).program
            return sum(
                tensor.size_bytes
                for tensor in program.tensors
                if tensor.role == "input" and tensor.name not in _ACTIVATIONS
            )

        return self.remembered.weight_bytes(problem, recipe, count)

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

        clock = clock_of_step(self.machine, runs_at)
        costs = costs_at(clock)
        if clock != self.machine.clock:
            _check_known_traffic(costs, self.machine)
        return costs

    def _report(
        self, problem: Problem, clock: float, recorded: "dict[Problem, Recorded]"
    ) -> Report:
        """Return what an operation costs at a clock; recorded: programs of the step so far."""
        recipe = self.recipe_for(problem)

        def simulate() -> Report:
            from accelsim.bench import Bench

            if problem not in recorded:
                recorded[problem] = self._recorded(problem, recipe)
            bench = Bench(self.machine, recipe, sample=self.sample)
            return bench.report_at(recorded[problem], clock)

        key = (problem, recipe, clock)
        if key not in self._known:
            self._known[key] = self.remembered.report(problem, recipe, clock, self.sample, simulate)
        return self._known[key]

    def _recorded(self, problem: Problem, recipe: Recipe | None) -> "Recorded":
        from accelsim.bench import Bench

        return next(Bench(self.machine, recipe).record(problem))

    def recipe_for(self, problem: Problem) -> Recipe | None:
        """Return what is asked for a problem; None: the library picks it."""
        if problem.kind == "gemm":
            return self.linear
        if isinstance(problem, AttentionProblem) and self.attention is not None:
            takes = self.attention.algorithm.query_rows
            return self.attention if takes == "any" or problem.most_queries == 1 else None
        return None


def _check_known_traffic(costs: Iterable[OperationCost], machine: MachineSpec) -> None:
    """Refuse a clock that follows from traffic that no sample estimates; raises SampleError."""
    for each in costs:
        if has_unseen_traffic(each.report):
            raise SampleError(
                f"sample: the power cap of {machine.name} lowers the clock, which follows from "
                f"traffic that a sample of {each.name} does not estimate behind an L2; "
                f"allowed: never"
            )


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
