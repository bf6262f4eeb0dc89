"""What a step of a model costs on a system: the sum of its operations, and the host."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from accelsim.config.sample import Sample
from accelsim.errors import AccelsimError, SampleError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.system import SystemSpec
from accelsim.inference.collective_report import collective_report
from accelsim.inference.remembered import RememberedCosts
from accelsim.inference.step_clock import clock_of_step
from accelsim.library.recipe import Recipe
from accelsim.library.registry import library_of
from accelsim.models.architecture import Architecture
from accelsim.models.expert_load import UNIFORM, ExpertLoad
from accelsim.models.operations.parts import Operation
from accelsim.models.operations.step import operations_of
from accelsim.models.parallel import ONE_DEVICE, Parallel, share_of, stages_of
from accelsim.models.plan import Plan
from accelsim.models.step import Step
from accelsim.report.measured import Measured, has_unseen_traffic, total_of
from accelsim.report.report import Report
from accelsim.workload.collective import Collective
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

    problem: Problem | Collective
    count: int
    report: Report
    """Of the device that takes longest."""
    others: tuple[Report, ...] = ()
    """Of other devices of its group, where they differ; they wait for the slowest."""
    idle: int = 0
    """Devices of the group that do nothing meanwhile."""

    def saved_j(self, devices: int) -> Mapping[str, float]:
        """Return the joules by component that all devices take less than if all had its report.

        Devices that wait for the slowest draw the static power, as it does for the same time.
        """
        group = 1 + len(self.others) + self.idle
        times = self.count * devices / group
        return {
            name: times
            * ((group - 1) * joules - sum(each.energy_by_component_j[name] for each in self.others))
            for name, joules in self.report.energy_by_component_j.items()
            if name != "static" and group > 1
        }

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
    devices: int = 1
    """Devices that each have such operations at the same time."""
    idle_devices: int = 0
    """Devices of other stages, which wait meanwhile."""
    overlaps: bool = False
    """Whether collectives run under the arithmetic."""

    @cached_property
    def measured(self) -> Measured:
        """What one device does: the sum of all operations."""
        return Measured.total((each.count, each.report) for each in self.operations)

    @cached_property
    def device_s(self) -> float:
        """Time of the device alone."""
        return float(self._total("seconds"))

    @cached_property
    def off_s(self) -> float:
        """Half of the 95 % interval of the time; 0 where all ops were scheduled."""
        return float(self._total("sampled").get("seconds", 0))

    def _total(self, name: str) -> Any:
        return total_of(name, [(each.count, each.report) for each in self.operations])

    @property
    def energy_j(self) -> float:
        """Energy of all devices and the links between them."""
        return sum(self.energy_by_component_j.values())

    @cached_property
    def energy_by_component_j(self) -> Mapping[str, float]:
        """The same by component; `static` is that of devices that wait, too."""
        own_j = {name: float(joules) for name, joules in self._total("joules").items()}
        found = {name: self.devices * joules for name, joules in own_j.items()}
        for each in self.operations:
            for name, joules in each.saved_j(self.devices).items():
                found[name] -= joules
        if self.idle_devices or self.hidden_s:
            kept = 1 - self.hidden_s / self.device_s
            found["static"] = (self.devices + self.idle_devices) * kept * own_j["static"]
        return found

    @cached_property
    def hidden_s(self) -> float:
        """Time of collectives under the arithmetic: all of it, or as long as that takes."""
        if not self.overlaps:
            return 0.0
        links_s = sum(each.time_s for each in self.operations if each.report.bound_by == "links")
        return min(links_s, self.device_s - links_s)

    @property
    def model_macs(self) -> int:
        """MACs that the model asks one device for; kernels compute more, in whole tiles."""
        return sum(
            each.count * each.problem.macs
            for each in self.operations
            if not isinstance(each.problem, Collective)
        )

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
        return self.device_s - self.hidden_s + self.host_s


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
    parallel: Parallel = ONE_DEVICE
    """Over which devices of the system the model is laid out."""
    sample: Sample = "never"
    """How much of a program is scheduled."""
    _known: dict[tuple[Problem | Collective, Recipe | None, float], Report] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def remembered(self) -> RememberedCosts:
        """Costs on the machine that were simulated before."""
        return RememberedCosts(self.machine)

    def __post_init__(self) -> None:
        """Refuse kernels that are not known or are for other problems, and plans.

        Raises an AccelsimError.
        """
        if self.parallel.devices > self.system.devices:
            raise WorkloadError(
                f"plan: {self.parallel}: found {self.parallel.devices} devices, allowed: "
                f"{self.system.devices}, which system {self.system.name} has"
            )
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
        parallel = self.parallel
        idle = parallel.devices - parallel.stage_devices
        return StepCost(step, operations, host_s, parallel.stage_devices, idle, parallel.overlaps)

    @property
    def plan(self) -> Plan:
        """How steps are laid out on this machine."""
        gathers_rows = library_of(self.machine).gathers_rows
        return Plan(self.experts, gathers_rows=gathers_rows, parallel=self.parallel)

    @property
    def share(self) -> Architecture:
        """What a device has of the model."""
        return share_of(self.architecture, self.parallel)

    def operations(self, step: Step) -> tuple[Operation, ...]:
        """Return the operations of a step on this machine."""
        return operations_of(self.architecture, step, self.plan)

    def weight_bytes(self, step: Step) -> int:
        """Return the bytes of all weights in the formats that the kernels of a step store.

        A tied head that is stored as the embedding is counts once. Raises what the machine cannot
        run.
        """
        return self._bytes_of_products(step, lambda problem: len(problem.rows)) - self._tied(step)

    def stages(self, step: Step) -> tuple[tuple[Architecture, int], ...]:
        """Return what a device of each stage has of the model, and the bytes of its weights.

        The first stage has the tables, and the last one the head, which then is no table of others.
        """
        if self.parallel.pipeline == 1:
            return ((self.share, self.weight_bytes(step)),)
        parallel, found = replace(self.parallel, pipeline=1), list[tuple[Architecture, int]]()
        stages = stages_of(self.architecture, self.parallel)
        for number, stage in enumerate(stages):
            model = replace(self, architecture=stage, parallel=parallel)
            stored = model._bytes_of_products(step, lambda problem: len(problem.rows))
            if number > 0:
                stored -= stage.table_bytes
            if number < len(stages) - 1:
                stored -= model._stored_bytes(model._head(step))
            found.append((model.share, stored))
        return tuple(found)

    def _head(self, step: Step) -> GemmProblem:
        """Return the product that makes the logits."""
        problems = (each.problem for each in self.operations(step))
        return next(
            each for each in problems if isinstance(each, GemmProblem) and each.name == "head"
        )

    def _tied(self, step: Step) -> int:
        """Return the bytes that the head shares with the embedding: none in a format of its own."""
        if not self.architecture.has_tied_head:
            return 0
        head = self._head(step)
        stored, plain = self._stored_bytes(head), head.tensor_bytes["b"]
        return stored if stored == plain else 0

    def weight_bytes_read(self, step: Step) -> int:
        """Return the bytes of the weights that a step reads: of experts those that have rows."""
        read = self._bytes_of_products(step, lambda problem: len(problem.used))
        return read - self.architecture.table_bytes

    def _bytes_of_products(self, step: Step, experts: Callable[[GroupedGemmProblem], int]) -> int:
        """Return the bytes of all weights; experts: how many of a product of experts count."""
        stored = self.share.outer_bytes
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
        recorded: dict[Problem | Collective, Recorded] = {}

        def costs_at(clock: float) -> tuple[OperationCost, ...]:
            return tuple(self._cost_of(each, clock, recorded) for each in operations)

        def runs_at(clock: float) -> list[tuple[int, Report]]:
            return [(each.count, each.report) for each in costs_at(clock)]

        clock = clock_of_step(self.machine, runs_at)
        costs = costs_at(clock)
        if clock != self.machine.clock:
            _check_known_traffic(costs, self.machine)
        return costs

    def _cost_of(
        self, operation: Operation, clock: float, recorded: "dict[Problem | Collective, Recorded]"
    ) -> OperationCost:
        """Return what an operation costs, of those of a group the slowest one first."""
        every = [
            (self._report(each, clock, recorded), each)
            for each in (operation.problem, *operation.others)
        ]
        slowest = max(every, key=lambda pair: pair[0].time_s)
        others = tuple(report for report, each in every if each is not slowest[1])
        return OperationCost(slowest[1], operation.count, slowest[0], others, operation.idle)

    def _report(
        self,
        problem: Problem | Collective,
        clock: float,
        recorded: "dict[Problem | Collective, Recorded]",
    ) -> Report:
        """Return what an operation costs at a clock; recorded: programs of the step so far."""
        recipe = None if isinstance(problem, Collective) else self.recipe_for(problem)
        key = (problem, recipe, clock)
        if key not in self._known:
            if isinstance(problem, Collective):
                self._known[key] = collective_report(problem, self.system, self.machine, clock)
            else:
                self._known[key] = self._simulated(problem, recipe, clock, recorded)
        return self._known[key]

    def _simulated(
        self,
        problem: Problem,
        recipe: Recipe | None,
        clock: float,
        recorded: "dict[Problem | Collective, Recorded]",
    ) -> Report:
        """Return the report of a kernel, simulated now or before."""

        def simulate() -> Report:
            from accelsim.bench import Bench

            if problem not in recorded:
                recorded[problem] = self._recorded(problem, recipe)
            bench = Bench(self.machine, recipe, sample=self.sample)
            return bench.report_at(recorded[problem], clock)

        return self.remembered.report(problem, recipe, clock, self.sample, simulate)

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
    hidden = {"under arithmetic": -cost.hidden_s} if cost.hidden_s else {}
    return {**times, **hidden, "host": cost.host_s}


def sustained(machine: MachineSpec) -> MachineSpec:
    """Return the machine as it runs step after step: under the cap, without bursts of power."""
    if machine.power is None:
        return machine
    power = machine.power.model_copy(update={"duty": "sustained"})
    return machine.model_copy(update={"power": power})
