"""What a step costs: the sum of its operations, and the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelsim.inference.pipeline import drained_s, repeated_s
from accelsim.models.step import Step
from accelsim.report.measured import Measured, total_of
from accelsim.report.report import Report
from accelsim.workload.collective import Collective
from accelsim.workload.problem import Problem


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
    def wait_s(self) -> float:
        """Mean time in which devices of the group wait for the one that takes longest."""
        group = 1 + len(self.others) + self.idle
        mean_s = (self.report.time_s + sum(each.time_s for each in self.others)) / group
        return self.count * (self.report.time_s - mean_s)

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
    stage_s: tuple[float, ...] = ()
    """Times of a micro-batch in each stage, with its host, where there are several."""
    microbatches: int = 1
    """Parts of the step that go through the stages one after the other; operations are of one."""

    @cached_property
    def measured(self) -> Measured:
        """What a device of each stage does for a micro-batch: the sum of all operations."""
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
        times = self.microbatches * self.devices
        found = {name: times * joules for name, joules in own_j.items()}
        for each in self.operations:
            for name, joules in each.saved_j(times).items():
                found[name] -= joules
        if self.idle_devices or self.hidden_s:
            kept = 1 + (self.others_s - self.hidden_s) / self.device_s
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
    def others_s(self) -> float:
        """Time of the step beside that of a micro-batch on its way through all stages."""
        if self.microbatches == 1:
            return 0.0
        whole_s = repeated_s if self.step.is_decode else drained_s
        return whole_s(self.stage_s, self.microbatches) - sum(self.stage_s)

    @property
    def bubble(self) -> float:
        """Share of the time in which a stage waits for others; 0 for one stage."""
        if not self.stage_s:
            return 0.0
        busy_s = self.microbatches * sum(self.stage_s) / len(self.stage_s)
        return 1 - busy_s / (sum(self.stage_s) + self.others_s)

    @property
    def model_macs(self) -> int:
        """MACs that the model asks a device of each stage for; kernels compute whole tiles."""
        return self.microbatches * sum(
            each.count * each.problem.macs
            for each in self.operations
            if not isinstance(each.problem, Collective)
        )

    @property
    def expert_wait(self) -> float:
        """Share of its time in which a device waits in the mean for the one with most experts."""
        own_s = self.device_s - self.hidden_s + self.host_s
        return sum(each.wait_s for each in self.operations if each.others or each.idle) / own_s

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
        return self.device_s - self.hidden_s + self.host_s + self.others_s


def time_by_operation(cost: StepCost) -> Mapping[str, float]:
    """Return the seconds of each kind of operation, and of the host."""
    times: dict[str, float] = {}
    for each in cost.operations:
        times[each.name] = times.get(each.name, 0.0) + each.time_s
    hidden = {"under arithmetic": -cost.hidden_s} if cost.hidden_s else {}
    others = {"other micro-batches": cost.others_s} if cost.others_s else {}
    return {**times, **hidden, **others, "host": cost.host_s}
