"""A GPU as one kind of code sees it: other rates and energies of its units."""

from collections.abc import Mapping

from accelsim.hardware.sourced import Sourced
from accelsim.library.base import Hardware
from accelsim.numerics.formats import Format


def with_products(gpu: Hardware, rate: float, energy: float) -> Hardware:
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
    return Hardware(
        gpu.machine.model_copy(update={"cube": cube.model_copy(update={"rates": rates})}),
        gpu.technology.model_copy(update={"cube": costs}),
    )


def with_vector_work(gpu: Hardware, share: float) -> Hardware:
    """Return the GPU whose vector ops take `share` times the cycles and the energy."""
    own = gpu.machine.vector.costs.model_dump(exclude_none=True)
    lanes = {
        fmt: {op: _times(lane.of(op), share) for op in own}
        for fmt, lane in gpu.technology.vector.items()
    }
    return _with_vector(gpu, {op: share * cost for op, cost in own.items()}, lanes)


def with_instructions(
    gpu: Hardware, counts: Mapping[str, float], slots: float, fmt: Format
) -> Hardware:
    """Return the GPU whose vector ops take so many instructions of format `fmt` an element.

    slots: what an instruction takes to issue, waits included; it costs as much as an addition.
    """
    add = gpu.technology.cost_of("vector", fmt).of("add")
    lanes = {fmt: {op: _times(add, count) for op, count in counts.items()}}
    return _with_vector(gpu, {op: slots * count for op, count in counts.items()}, lanes)


def _with_vector(
    gpu: Hardware, costs: Mapping[str, float], lanes: Mapping[Format, Mapping[str, Sourced[float]]]
) -> Hardware:
    """Return the GPU with other costs of some vector ops, and other energies of some formats."""
    machine, technology = gpu
    unit = machine.vector
    unit = unit.model_copy(update={"costs": unit.costs.model_copy(update=dict(costs))})
    changed = {
        fmt: technology.cost_of("vector", fmt).model_copy(update=dict(update))
        for fmt, update in lanes.items()
    }
    return Hardware(
        machine.model_copy(update={"vector": unit}),
        technology.model_copy(update={"vector": {**technology.vector, **changed}}),
    )


def _times(cost: Sourced[float], share: float) -> Sourced[float]:
    return cost.model_copy(update={"value": share * cost.value})
