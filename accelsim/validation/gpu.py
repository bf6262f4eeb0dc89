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
    own = gpu.machine.vector.costs.model_dump(exclude_none=True)
    lanes = {
        fmt: {op: _times(getattr(lane, op), share) for op in own}
        for fmt, lane in gpu.technology.vector.items()
    }
    return _with_vector(gpu, {op: share * cost for op, cost in own.items()}, lanes)


def with_instructions(gpu: Gpu, counts: Mapping[str, float], slots: float, fmt: Format) -> Gpu:
    """Return the GPU whose vector ops take so many instructions of format `fmt` an element.

    slots: what an instruction takes to issue, waits included; it costs as much as an addition.
    """
    add = gpu.technology.vector_lane(fmt).add
    lanes = {fmt: {op: _times(add, count) for op, count in counts.items()}}
    return _with_vector(gpu, {op: slots * count for op, count in counts.items()}, lanes)


def _with_vector(
    gpu: Gpu, costs: Mapping[str, float], lanes: Mapping[Format, Mapping[str, Sourced[float]]]
) -> Gpu:
    """Return the GPU with other costs of some vector ops, and other energies of some formats."""
    machine, technology = gpu
    unit = machine.vector
    unit = unit.model_copy(update={"costs": unit.costs.model_copy(update=dict(costs))})
    changed = {
        fmt: technology.vector_lane(fmt).model_copy(update=dict(update))
        for fmt, update in lanes.items()
    }
    return Gpu(
        machine.model_copy(update={"vector": unit}),
        technology.model_copy(update={"vector": {**technology.vector, **changed}}),
    )


def _times(cost: Sourced[float], share: float) -> Sourced[float]:
    return cost.model_copy(update={"value": share * cost.value})
