"""What a batch of requests to a model costs: a frozen record that becomes JSON, rows or tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from accelsim.inference.cost import StepModel
from accelsim.inference.generation import Generation
from accelsim.inference.memory import MemoryUse
from accelsim.inference.requests import Requests
from accelsim.inference.step_cost import StepCost, time_by_operation
from accelsim.inference.stored_weights import weight_bytes_read
from accelsim.library.recipe import LIBRARY
from accelsim.models.operations.parts import Operation
from accelsim.workload.collective import Collective
from accelsim.workload.problem import GroupedGemmProblem, Problem

if TYPE_CHECKING:
    from rich.console import Group


_NOT_SHOWN = ("generation", "costs")


@dataclass(frozen=True, kw_only=True)
class PhaseReport:
    """The prefill, or the step in the middle of a generation."""

    time_s: float
    time_by_operation_s: Mapping[str, float]
    bound_by: str
    """What bounds the operation that takes most of the time."""
    bubble: float
    """Share of the time in which a stage of a pipeline waits for others; 0 without one."""
    expert_imbalance: float
    """Rows of the device with most rows of experts over the mean of those that share them; 1 where
    none are shared."""
    expert_wait: float
    """Share of the time in which a device waits in the mean for the slowest one with experts."""
    mfu: float
    """MACs of the model over what the matrix units could do in the time (PaLM, appendix B)."""
    mbu: float
    """Bytes of weights, and of keys and values, over what the HBM could move in the time."""
    energy_j: float
    energy_by_component_j: Mapping[str, float]
    hbm_bytes: int
    """Of all devices, as the joules; times and shares are those of one."""
    recipes: Mapping[str, str]
    """Kernel of each operation as it ran."""

    def to_row(self, phase: str) -> dict[str, Any]:
        """Return columns whose names begin with the phase; parts of a sum are behind a point."""
        single = (
            "time_s",
            "bound_by",
            "bubble",
            "expert_imbalance",
            "expert_wait",
            "mfu",
            "mbu",
            "energy_j",
            "hbm_bytes",
        )
        row = {f"{phase}_{name}": getattr(self, name) for name in single}
        for name in ("time_by_operation_s", "energy_by_component_j"):
            row |= {f"{phase}_{name}.{part}": value for part, value in getattr(self, name).items()}
        return row


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A batch of equal requests from prompt to last token."""

    model: str
    system: str
    machine: str
    requests: Requests
    time_to_first_token_s: float
    time_per_token_s: float
    """Mean time of a step after the first token; 0 for one token."""
    time_s: float
    """From the begin of the prefill to the last token."""
    tokens_per_s: float
    """Output tokens of all requests over the time."""
    energy_j: float
    """Of all devices of the plan and their links; nothing is known of the host."""
    energy_per_token_j: float
    """Energy over output tokens, the prefill included."""
    interpolation_error: float
    """Largest error of an interpolated step that was measured; 0 where all are simulated."""
    sampling_error: float
    """Half of the 95 % interval of the time over the time, as if all that was sampled was off the
    same way; 0 where all ops were scheduled."""
    sampling_note: str
    """What a sample does not estimate; empty if nothing."""
    draw_spread: float
    """Largest share by which products of experts differ in time among the loads that stand for all
    layers; 0 without experts."""
    memory: MemoryUse
    largest_batch: int
    """Most sequences of this length that fit."""
    prefill: PhaseReport
    decode: PhaseReport
    asked: Mapping[str, str] = field(default_factory=dict)
    """What was asked for in the place of a default: kernels, formats, experts, a plan."""
    generation: Generation = field(repr=False, compare=False)
    costs: StepModel = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the steps as plain nested data for JSON."""
        named = self._flat(_NOT_SHOWN)
        memory = {
            name: getattr(self.memory, name)
            for name in (*self.memory.__dataclass_fields__, "free_bytes")
        }
        plain = {name: dict(vars(named[name])) for name in ("prefill", "decode")}
        return {**named, "asked": dict(self.asked), "memory": memory, **plain}

    def to_row(self) -> dict[str, Any]:
        """Return one row of a table: figures of the requests, of their prefill and of a step.

        `machine` is the system, `device` its machine.
        """
        left_out = (*_NOT_SHOWN, "memory", "prefill", "decode", "machine", "asked")
        row = self._flat(left_out)
        row |= {name: getattr(self.memory, name) for name in self.memory.__dataclass_fields__}
        asked = self.requests
        names = {
            "machine": self.system,
            "device": self.machine,
            "workload": f"{self.model} {asked.batch} x {asked.prompt} + {asked.output}",
            "kernel": " ".join(f"{kind}={recipe}" for kind, recipe in self.asked.items())
            or LIBRARY,
        }
        return names | row | self.prefill.to_row("prefill") | self.decode.to_row("step")

    def _flat(self, left_out: Sequence[str]) -> dict[str, Any]:
        """Return the fields but some, the numbers of the requests in their place."""
        own = {name: value for name, value in vars(self).items() if name not in left_out}
        return {
            name: value
            for key, found in own.items()
            for name, value in (asdict(found) if key == "requests" else {key: found}).items()
        }

    def operation_rows(self) -> list[dict[str, Any]]:
        """Return one row an operation of the prefill and of the step in the middle."""
        phases = {"prefill": self.generation.prefill, "step": self.generation.middle}
        return [
            {**each.report.to_row(), "workload": phase, "kernel": each.name, "count": each.count}
            for phase, cost in phases.items()
            for each in cost.operations
        ]

    def __rich__(self) -> "Group":
        from accelsim.inference.display import inference_tables

        return inference_tables(self)


def phase_report(cost: StepCost, costs: StepModel) -> PhaseReport:
    """Return what there is to say of a step."""
    architecture, weights_bytes = costs.share, weight_bytes_read(costs, cost.step)
    measured, longest = cost.measured, max(cost.operations, key=lambda each: each.time_s)
    peak_bytes_per_s = longest.report.peak_hbm_bytes_per_s
    fmt = architecture.cached_format
    own = costs.parallel.step_of(cost.step)
    cached_bytes = sum(
        each.count * architecture.kv_bytes(each.cached, fmt) for each in own.sequences
    )
    return PhaseReport(
        time_s=cost.time_s,
        time_by_operation_s=time_by_operation(cost),
        bound_by=longest.report.bound_by,
        bubble=cost.bubble,
        expert_imbalance=_expert_imbalance(costs.operations(cost.step)),
        expert_wait=cost.expert_wait,
        mfu=cost.model_macs / measured.peak_macs_per_s / cost.time_s / costs.parallel.pipeline,
        mbu=cost.microbatches
        * (weights_bytes + cached_bytes)
        / peak_bytes_per_s
        / cost.time_s
        / costs.parallel.pipeline,
        energy_j=cost.energy_j,
        energy_by_component_j=cost.energy_by_component_j,
        hbm_bytes=cost.microbatches
        * cost.devices
        * (measured.hbm_read_bytes + measured.hbm_write_bytes),
        recipes={each.name: each.report.recipe for each in cost.operations},
    )


def _expert_imbalance(operations: Iterable[Operation]) -> float:
    """Return the most rows of experts that a device has over the mean, in all layers."""
    most = mean = 0.0
    for each in operations:
        rows = [_rows(problem) for problem in (each.problem, *each.others)]
        most += each.count * max(rows)
        group = len(rows) + each.idle
        mean += each.count * sum(rows) / group
    return most / mean if mean else 1.0


def _rows(problem: Problem | Collective) -> int:
    """Return the rows of a product of experts; 0 of other problems."""
    return sum(problem.rows) if isinstance(problem, GroupedGemmProblem) else 0
