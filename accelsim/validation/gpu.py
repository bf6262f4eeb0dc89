"""A kernel of a GPU's libraries: what it computes, how, and what its code makes of the machine."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import Sourced, TechnologySpec
from accelsim.loading import load_technology
from accelsim.numerics.formats import Format
from accelsim.report.report import Report
from accelsim.simulation import KernelRun
from accelsim.workload.problem import Problem


class Gpu(NamedTuple):
    """A machine and the costs of its actions, as one kind of code sees them."""

    machine: MachineSpec
    technology: TechnologySpec


Code = Callable[[Gpu], Gpu]
"""What a kind of code makes of the machine file, which is for asynchronous copies and products."""


def asynchronous(gpu: Gpu) -> Gpu:
    """Code as the machine file is for."""
    return gpu


class GpuRun(NamedTuple):
    """One operation as a library runs it."""

    problem: Problem
    kernel: str
    settings: Mapping[str, Any]
    code: Code = asynchronous

    def on(self, machine: MachineSpec) -> Report:
        """Return the report of the run; raises as `accelsim.simulate` does."""
        gpu = self.code(Gpu(machine, load_technology(machine.technology)))
        run = KernelRun.prepare(gpu.machine, self.kernel, self.settings)
        report, _ = run.execute(self.problem, None, technology=gpu.technology)
        return report


def with_products(gpu: Gpu, rate: float, energy: float) -> Gpu:
    """Return the GPU whose products run at `rate` times the rate, at `energy` times the energy.

    The matrix unit itself stays as large, so its area is spread over the lower rate.
    """
    cube = gpu.machine.cube_for("a product")
    rates = {fmt: rate * own for fmt, own in cube.rates.items()}
    costs = {
        fmt: cost.model_copy(
            update={
                "multiply": _times(cost.multiply, energy),
                "accumulate": _times(cost.accumulate, energy),
                "area": _times(cost.area, 1 / rate),
            }
        )
        for fmt, cost in gpu.technology.cube.items()
    }
    return Gpu(
        gpu.machine.model_copy(update={"cube": cube.model_copy(update={"rates": rates})}),
        gpu.technology.model_copy(update={"cube": costs}),
    )


def with_vector_work(gpu: Gpu, share: float) -> Gpu:
    """Return the GPU whose vector ops take `share` times the cycles and the energy."""
    vector, technology = gpu.machine.vector, gpu.technology
    costs = {op: share * cost for op, cost in vector.costs.model_dump(exclude_none=True).items()}
    vector = vector.model_copy(update={"costs": vector.costs.model_copy(update=costs)})
    lanes = {
        fmt: lane.model_copy(update={op: _times(getattr(lane, op), share) for op in costs})
        for fmt, lane in technology.vector.items()
    }
    return Gpu(
        gpu.machine.model_copy(update={"vector": vector}),
        technology.model_copy(update={"vector": lanes}),
    )


def with_instructions(
    technology: TechnologySpec, counts: Mapping[str, float], fmt: Format
) -> TechnologySpec:
    """Return the costs with so many instructions, each as costly as an addition, for each op."""
    lane = technology.vector_lane(fmt)
    update = {op: _times(lane.add, count) for op, count in counts.items()}
    vector = {**technology.vector, fmt: lane.model_copy(update=update)}
    return technology.model_copy(update={"vector": vector})


def _times(cost: Sourced[float], share: float) -> Sourced[float]:
    return cost.model_copy(update={"value": share * cost.value})
