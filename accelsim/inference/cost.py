"""Costs of the steps of a model on a system, each operation simulated once."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from accelsim.config.sample import Sample
from accelsim.errors import SampleError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.system import SystemSpec
from accelsim.inference.collective_report import collective_report
from accelsim.inference.remembered import RememberedCosts
from accelsim.inference.step_clock import clock_of_step
from accelsim.inference.step_cost import OperationCost, StepCost
from accelsim.library.kernels import NONE_ASKED, Kernels
from accelsim.library.recipe import Recipe
from accelsim.library.registry import library_of
from accelsim.loading import LoadedSystem
from accelsim.models.architecture import Architecture
from accelsim.models.operations.parts import Operation
from accelsim.models.operations.step import operations_by_stage, operations_of
from accelsim.models.parallel import Parallel, share_of
from accelsim.models.plan import DEFAULT_PLAN, Plan
from accelsim.models.step import Step
from accelsim.report.measured import has_unseen_traffic
from accelsim.report.report import Report
from accelsim.runtime.kept import once_for_each
from accelsim.workload.collective import Collective
from accelsim.workload.problem import Problem

if TYPE_CHECKING:
    from accelsim.bench import Recorded


@dataclass
class StepModel:
    """Costs of the steps of a model on a system, which runs them one after the other."""

    architecture: Architecture
    devices: LoadedSystem
    kernels: Kernels = NONE_ASKED
    """Kernels in the place of the library's."""
    plan: Plan = DEFAULT_PLAN
    """Which experts tokens choose, and over which devices the model is laid out; how rows come to
    their experts follows from the machine."""
    sample: Sample = "never"
    """How much of a program is scheduled."""
    _known: dict[tuple[Problem | Collective, Recipe | None, float], Report] = field(
        default_factory=dict, repr=False
    )

    def __post_init__(self) -> None:
        """Refuse a plan over more devices than there are; raises WorkloadError."""
        if self.parallel.devices > self.system.devices:
            raise WorkloadError(
                f"plan: {self.parallel}: found {self.parallel.devices} devices, allowed: "
                f"{self.system.devices}, which system {self.system.name} has"
            )
        gathers_rows = library_of(self.machine).gathers_rows
        self.plan = replace(self.plan, gathers_rows=gathers_rows)

    @property
    def system(self) -> SystemSpec:
        """The devices together and their host."""
        return self.devices.spec

    @cached_property
    def machine(self) -> MachineSpec:
        """A device as it runs step after step."""
        return sustained(self.devices.machine)

    @property
    def parallel(self) -> Parallel:
        """The devices over which the model is laid out."""
        return self.plan.parallel

    @cached_property
    def remembered(self) -> RememberedCosts:
        """Costs on the machine that were simulated before."""
        return RememberedCosts(self.machine)

    @property
    def share(self) -> Architecture:
        """What a device has of the model."""
        return share_of(self.architecture, self.parallel)

    def cost(self, step: Step) -> StepCost:
        """Return what a step costs; raises an AccelsimError for what the machine cannot run."""
        parallel, (clock, operations) = self.parallel, self._at_one_clock(self.operations(step))
        return StepCost(
            step,
            operations,
            self._host_s(step, operations),
            parallel.stage_devices,
            parallel.devices - parallel.stage_devices,
            parallel.overlaps,
            self._stage_s(step, clock) if parallel.pipeline > 1 else (),
            parallel.microbatches,
        )

    def _host_s(self, step: Step, operations: Iterable[OperationCost]) -> float:
        """Return the time of the host for a micro-batch."""
        host, launches = self.system.host, sum(each.count for each in operations)
        requests = sum(each.count for each in step.sequences) / self.parallel.microbatches
        return (
            host.step.value
            + host.layer.value * len(self.architecture.layers)
            + host.request.value * requests
            + host.launch.value * launches
        )

    def _stage_s(self, step: Step, clock: float) -> tuple[float, ...]:
        """Return the time of a micro-batch in each stage; the host has an equal part in each."""
        found, recorded = list[StepCost](), dict[Problem | Collective, "Recorded"]()
        for operations in operations_by_stage(self.architecture, step, self.plan):
            costs = tuple(self._cost_of(each, clock, recorded) for each in operations)
            found.append(StepCost(step, costs, 0.0, overlaps=self.parallel.overlaps))
        every = (operation for cost in found for operation in cost.operations)
        host_s = self._host_s(step, every) / len(found)
        return tuple(cost.time_s + host_s for cost in found)

    def operations(self, step: Step) -> tuple[Operation, ...]:
        """Return the operations of a step on this machine."""
        return operations_of(self.architecture, step, self.plan)

    def record(self, problem: Problem) -> "Recorded":
        """Return the program of a problem as its kernel records it."""
        from accelsim.bench import Bench

        return next(Bench(self.machine, self.kernels.recipe_for(problem)).record(problem))

    def _at_one_clock(
        self, operations: tuple[Operation, ...]
    ) -> tuple[float, tuple[OperationCost, ...]]:
        """Return the clock at which operations meet the power cap together, and their costs."""
        recorded: dict[Problem | Collective, Recorded] = {}

        def costs_at(clock: float) -> tuple[OperationCost, ...]:
            return tuple(self._cost_of(each, clock, recorded) for each in operations)

        def runs_at(clock: float) -> list[tuple[int, Report]]:
            return [(each.count, each.report) for each in costs_at(clock)]

        clock = clock_of_step(self.machine, runs_at)
        costs = costs_at(clock)
        if clock != self.machine.clock:
            _check_known_traffic(costs, self.machine)
        return clock, costs

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
        recipe = None if isinstance(problem, Collective) else self.kernels.recipe_for(problem)
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
                recorded[problem] = self.record(problem)
            bench = Bench(self.machine, recipe, sample=self.sample)
            return bench.report_at(recorded[problem], clock)

        return self.remembered.report(problem, recipe, clock, self.sample, simulate)


def _check_known_traffic(costs: Iterable[OperationCost], machine: MachineSpec) -> None:
    """Refuse a clock that follows from traffic that no sample estimates; raises SampleError."""
    for each in costs:
        if has_unseen_traffic(each.report):
            raise SampleError(
                f"sample: the power cap of {machine.name} lowers the clock, which follows from "
                f"traffic that a sample of {each.name} does not estimate behind an L2; "
                f"allowed: never"
            )


@once_for_each
def sustained(machine: MachineSpec) -> MachineSpec:
    """Return the machine as it runs step after step: under the cap, without bursts of power."""
    if machine.power is None:
        return machine
    power = machine.power.model_copy(update={"duty": "sustained"})
    return machine.model_copy(update={"power": power})
