"""The vector unit of one core: element-wise ops and reductions on lanes that formats share.

Files say of each op what it costs. Where they have no key for an op with a cost class, it costs as
much as that class. Changes of number format may cost by both formats.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, create_model, model_validator

from accelsim.config.spec import Factor, Picojoules, Spec, SquareMillimetres
from accelsim.errors import DoesNotFitError
from accelsim.hardware.counts import Count, Cycles
from accelsim.hardware.sourced import Sourced
from accelsim.hardware.units.base import (
    FIRST_OWN,
    NUM_FORMATS,
    SCRATCHPAD_READ,
    SCRATCHPAD_WRITE,
    ArithmeticSpec,
    Counts,
    Path,
    Technology,
    UnitModel,
)
from accelsim.hardware.units.cycles import ceil_cycles, ceil_div
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.program.ops import FIELD_MASK, NUM_OPS, VECTOR_OPS, Op, Unit, VectorOp
from accelsim.program.program import Program
from accelsim.program.words import converted_formats, operand_format
from accelsim.runtime.jit import jit_inner

NAMED_OPS = {op.name.lower(): about for op, about in VECTOR_OPS.items()}

_CONVERT = Op.CONVERT.value
_FIRST_CONVERSION = FIRST_OWN + NUM_OPS * NUM_FORMATS
_END = _FIRST_CONVERSION + NUM_FORMATS**2

Table = TypeVar("Table", bound="OpTable")


class OpTable(Spec):
    """What vector ops cost: a key for each of them, see `with_ops`."""

    ops: ClassVar[Mapping[str, VectorOp]] = {}

    @model_validator(mode="before")
    @classmethod
    def _follow_classes(cls, given: Any) -> Any:
        """Give ops without a key what their class has."""
        if not isinstance(given, dict):
            return given
        classes = {name: about.cost_class for name, about in cls.ops.items()}
        return {name: given[own] for name, own in classes.items() if own in given} | given

    def of(self, op: str) -> Any:
        """Return what an op costs, by its name; None: the unit lacks it."""
        return getattr(self, op)


def with_ops(
    ops: Mapping[str, VectorOp],
    cost: Any,
    describe: Callable[[VectorOp], str],
    *,
    may_be_absent: bool = False,
) -> Callable[[type[Table]], type[Table]]:
    """Return a decorator that adds a field of type `cost` for each op to a table.

    An op with a class needs no key. may_be_absent: neither does an op that a machine may lack.
    """

    def field_of(about: VectorOp) -> tuple[Any, Any]:
        if about.cost_class or (about.is_optional and may_be_absent):
            return cost | None, Field(default=None, description=describe(about))
        return cost, Field(description=describe(about))

    def added(table: type[Table]) -> type[Table]:
        fields: dict[str, Any] = {name: field_of(about) for name, about in ops.items()}
        whole = create_model(
            table.__name__,
            __base__=table,
            __doc__=table.__doc__,
            __module__=table.__module__,
            **fields,
        )
        whole.ops = ops
        return whole

    return added


def _meaning(about: VectorOp) -> str:
    if about.cost_class:
        return f"{about.meaning}; absent: as {about.cost_class}."
    return f"{about.meaning}{'; absent: the unit cannot' if about.is_optional else ''}."


def _energy(about: VectorOp) -> str:
    as_class = f"; absent: as {about.cost_class}" if about.cost_class else ""
    return f"Energy {about.energy}, in picojoules{as_class}."


@with_ops(NAMED_OPS, Factor, _meaning, may_be_absent=True)
class VectorCosts(OpTable):
    """Passes of all lanes that one vector op takes per group of lanes, in cycles."""


@with_ops(NAMED_OPS, Sourced[Picojoules], _energy)
class VectorLaneCost(OpTable):
    """One lane of the vector unit for one format."""

    area: Sourced[SquareMillimetres]
    """Area of one lane with all its operations, in mm2."""
    conversions: dict[Format, Sourced[Picojoules]] = Field(default_factory=dict)
    """Energy of one change of number format to this one by the narrower format it is changed from,
    in picojoules; absent: as convert."""


class VectorSpec(ArithmeticSpec):
    """Element-wise and reduction unit."""

    lanes: dict[Format, Count] = Field(min_length=1)
    """Elements processed per cycle for each format the unit supports."""
    issue_cycles: Cycles
    """Fixed cycles an op occupies the unit before its first element."""
    pipeline_depth_cycles: Cycles
    """Cycles from the last element of an op until its result can be read by another unit."""
    costs: VectorCosts
    """Cost table per operation."""
    conversions: dict[Format, dict[Format, Factor]] = Field(default_factory=dict)
    """Passes of all lanes that a change of number format takes, by the format it is changed from
    and then the one it is changed to, in cycles; absent: as costs.convert."""

    def conversion(self, source: Format, target: Format) -> float:
        """Return the passes that a change from one number format to another takes, in cycles."""
        return self.conversions.get(source, {}).get(target, self.costs.of("convert"))

    @property
    def latency_cycles(self) -> int:
        """Cycles from the end of an op on the unit until other units see its result."""
        return self.pipeline_depth_cycles

    @property
    def number_formats(self) -> tuple[Format, ...]:
        """Formats of the elements."""
        return tuple(self.lanes)

    @property
    def costed(self) -> Mapping[Path, Format | None]:
        """Each format has costs."""
        return {("lanes", fmt): fmt for fmt in self.lanes}

    def check(self, program: Program, machine: str) -> None:
        """Refuse ops that the unit lacks."""
        for op in VECTOR_OPS:
            name = op.name.lower()
            if program.totals.counts[op] and self.costs.of(name) is None:
                raise DoesNotFitError(
                    f"machine {machine}: its vector unit has no {name}, which {program.name} "
                    f"uses; give vector.costs.{name} to add it"
                )

    def energy_pj(self, activity: Activity, technology: Technology) -> float:
        """Return the energy of all elements, in pJ."""
        energy_pj = 0.0
        for (op, number_format), elements in activity.vector_elements.items():
            lane: VectorLaneCost = technology.cost_of("vector", number_format)
            energy_pj += elements * lane.of(op).value
        for (source, target), elements in activity.widened_elements.items():
            lane = technology.cost_of("vector", target)
            if own := lane.conversions.get(source):
                energy_pj += elements * (own.value - lane.of("convert").value)
        return energy_pj

    def area_mm2(self, technology: Technology) -> float:
        """Return the area of one unit: its formats share the lanes, the widest one decides."""
        costs: dict[Format, VectorLaneCost] = {
            fmt: technology.cost_of("vector", fmt) for fmt in self.lanes
        }
        return max(count * costs[fmt].area.value for fmt, count in self.lanes.items())


class VectorShape(NamedTuple):
    """What compiled code needs of the unit."""

    lanes: npt.NDArray[np.int64]
    """Of every format; 1 for those that the unit lacks."""
    costs: npt.NDArray[np.float64]
    """Of every op code."""
    conversions: npt.NDArray[np.float64]
    """The same of changes of number format, by the codes of both."""
    issue_cycles: int
    port_bytes_per_cycle: float


def _shape_of(spec: VectorSpec, port_bytes_per_cycle: float) -> VectorShape:
    lanes = np.array([spec.lanes.get(fmt, 1) for fmt in Format], np.int64)
    costs = np.ones(NUM_OPS)
    for op in VECTOR_OPS:
        costs[op] = spec.costs.of(op.name.lower()) or 1.0
    conversions = np.array([[spec.conversion(a, b) for b in Format] for a in Format])
    return VectorShape(lanes, costs, conversions, spec.issue_cycles, port_bytes_per_cycle)


@jit_inner
def _busy_cycles(op, shape):
    """Groups of lanes times the cost of the op, or the time to move its tiles, plus the issue."""
    groups = ceil_div(op.a * op.b, shape.lanes[operand_format(op)])
    code = op.head & FIELD_MASK
    cost = shape.conversions[converted_formats(op)] if code == _CONVERT else shape.costs[code]
    computing = ceil_cycles(groups * cost, 1.0)
    moving = ceil_cycles(float(op.c + op.d), shape.port_bytes_per_cycle)
    return shape.issue_cycles + max(computing, moving)


@jit_inner
def _count(op, shape, counts):
    code = op.head & FIELD_MASK
    counts[FIRST_OWN + code * NUM_FORMATS + operand_format(op)] += op.a * op.b
    if code == _CONVERT:
        source, target = converted_formats(op)
        counts[_FIRST_CONVERSION + source * NUM_FORMATS + target] += op.a * op.b
    counts[SCRATCHPAD_READ] += op.c
    counts[SCRATCHPAD_WRITE] += op.d


def _actions(counts: Counts) -> dict[str, Any]:
    elements = counts[FIRST_OWN:_FIRST_CONVERSION].reshape(NUM_OPS, NUM_FORMATS)
    converted = counts[_FIRST_CONVERSION:_END].reshape(NUM_FORMATS, NUM_FORMATS)
    formats = list(Format)
    return {
        "vector_elements": {
            (Op(op).name.lower(), formats[code]): int(elements[op, code])
            for op, code in np.argwhere(elements)
        },
        "widened_elements": {
            (formats[a], formats[b]): int(converted[a, b])
            for a, b in np.argwhere(converted)
            if formats[a].bits < formats[b].bits
        },
    }


VECTOR = UnitModel(
    unit=Unit.VECTOR,
    key="vector",
    shape_of=_shape_of,
    busy_cycles=_busy_cycles,
    count=_count,
    num_actions=NUM_OPS * NUM_FORMATS + NUM_FORMATS**2,
    actions=_actions,
)
