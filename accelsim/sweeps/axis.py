"""One axis of a sweep: a list of values, or a range that stands for one."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from accelsim.config.plain import Plain, plain
from accelsim.config.spec import Spec
from accelsim.sweeps.quantities import parse_any_quantity

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An integer that a column of a table can hold."""
Scalar = Annotated[bool | Whole | float | str, Plain]
"""A value of one setting: what a YAML scalar can hold."""
_End = Annotated[Whole | float | str, Plain]

MAX_RANGE_POINTS = 10_000


class _Number(NamedTuple):
    value: float
    unit: str
    """Base unit of a quantity, or an empty string for a plain number."""
    is_whole: bool


def _number(value: int | float | str) -> _Number:
    if not isinstance(value, str):
        return _Number(float(value), "", isinstance(value, int))
    quantity = parse_any_quantity(value)
    if quantity is None:
        raise ValueError(f"found '{value}', expected a number or a quantity such as '64 KiB'")
    return _Number(*quantity, is_whole=quantity[1] == "B")


class AxisRange(Spec):
    """Values from one end to the other, evenly spaced in ratio or in difference."""

    start: _End = Field(alias="from")
    """First value: a number, or a quantity with its unit."""
    stop: _End = Field(alias="to")
    """Last value, in the same unit or one of the same kind."""
    points: int = Field(ge=2, le=MAX_RANGE_POINTS)
    """How many values, both ends included; fewer where rounding makes two of them equal."""
    scale: Literal["log", "linear"] = "log"
    """Even steps in ratio (log) or in difference (linear)."""
    multiple_of: _End | None = None
    """Round the values to multiples of this number or quantity; absent: bytes and ranges between
    two integers are rounded to integers."""

    @field_validator("start", "stop", "multiple_of")
    @classmethod
    def _is_a_number(cls, value: int | float | str | None) -> int | float | str | None:
        if value is not None:
            _number(value)
        return value

    @model_validator(mode="after")
    def _ends_fit_together(self) -> "AxisRange":
        start, stop, step = _number(self.start), _number(self.stop), self._step()
        if start.unit != stop.unit or (step and step.unit != start.unit):
            raise ValueError("from, to and multiple_of must have units of one kind")
        if start.value >= stop.value:
            raise ValueError(f"found from {self.start} to {self.stop}, allowed: from below to")
        if self.scale == "log" and start.value <= 0:
            raise ValueError(f"found from {self.start}, allowed on a log scale: above 0")
        if step and step.value <= 0:
            raise ValueError(f"found multiple_of {self.multiple_of}, allowed: above 0")
        return self

    def values(self) -> list[Scalar]:
        """Return the distinct values in rising order, quantities as text in their base unit."""
        unit = _number(self.start).unit
        return [f"{value} {unit}" if unit else value for value in dict.fromkeys(self._rounded())]

    def _step(self) -> _Number | None:
        return None if self.multiple_of is None else _number(self.multiple_of)

    def _rounded(self) -> Iterator[int | float]:
        start, stop, step = _number(self.start), _number(self.stop), self._step()
        are_whole = start.is_whole and stop.is_whole
        for value in self._spaced(start.value, stop.value):
            if step:
                multiple = max(round(value / step.value), 1) * step.value
                yield round(multiple) if step.is_whole else multiple
            else:
                yield round(value) if are_whole else value

    def _spaced(self, start: float, stop: float) -> Iterator[float]:
        last = self.points - 1
        for index in range(last):
            share = index / last
            if self.scale == "log":
                yield start * (stop / start) ** share
            else:
                yield start + (stop - start) * share
        yield stop


def _shape(value: Any) -> str:
    return "range" if isinstance(value, dict | AxisRange) else "list"


def _listed(values: Any) -> Any:
    """Arrays of NumPy are lists too."""
    found = plain(values)
    return tuple(found) if isinstance(found, list) else found


Values = Annotated[tuple[Scalar, ...], BeforeValidator(_listed), Field(min_length=1)]
Axis = Annotated[
    Annotated[Values, Tag("list")] | Annotated[AxisRange, Tag("range")], Discriminator(_shape)
]


def axis_values(axis: tuple[Scalar, ...] | AxisRange) -> list[Scalar]:
    """Return the values of a list or range."""
    return axis.values() if isinstance(axis, AxisRange) else list(axis)
