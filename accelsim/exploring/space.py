"""A design space as indices: one index an axis, so that a sampler needs to know no values."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from accelsim.errors import ConfigError
from accelsim.sweeps.axis import Scalar
from accelsim.sweeps.contents import ReadContents
from accelsim.sweeps.points import axes_of, check_names, constraints_on, joined
from accelsim.sweeps.quantities import parse_any_quantity
from accelsim.sweeps.resolve import Resolved, Resolver, Settings
from accelsim.sweeps.spec import SweepSpec

Indices = tuple[int, ...]
"""Position on each axis that has more than one alternative."""


class DesignSpace:
    """The axes of a sweep; a design is resolved when it is asked for, so any size will do."""

    def __init__(
        self, spec: SweepSpec, read: ReadContents, version: str, folder: Path = Path()
    ) -> None:
        """The files that `spec` names are looked for in `folder` first.

        Raises an AccelsimError for what is wrong wherever one looks: an unknown name or
        parameter, a setting that nothing accepts, a constraint that never applies, and
        ConfigError for a space of one design.
        """
        alternatives = axes_of(spec)
        self._fixed = dict(spec.settings, **joined([axis[0] for axis in alternatives]))
        self._axes = [_in_order(axis) for axis in alternatives if len(axis) > 1]
        if not self._axes:
            raise ConfigError(
                [f"exploration '{spec.name}': found one design, allowed: an axis of several values"]
            )
        self._resolver = Resolver(read, version, folder)
        covering = self._covering()
        check_names([self.choice(indices) for indices in covering], self._resolver)
        resolved = [self.resolve(indices) for indices in covering]
        first = resolved[0].error
        if first and all(str(each.error) == str(first) for each in resolved):
            raise first
        self._constraints = constraints_on(resolved, spec.constraints)

    @property
    def shape(self) -> Indices:
        """Alternatives of each axis."""
        return tuple(len(axis) for axis in self._axes)

    @property
    def num_designs(self) -> int:
        """Combinations of alternatives, those among them that constraints exclude."""
        return prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """Key of each axis, or the keys of a zipped group."""
        return tuple(" + ".join(axis[0]) for axis in self._axes)

    @property
    def is_ordered(self) -> tuple[bool, ...]:
        """Which axes are numbers in rising order; the others have alternatives without order."""
        return tuple(_is_rising(axis) for axis in self._axes)

    def choice(self, indices: Indices) -> Settings:
        """Return the settings of a design with its machine, workload and kernel."""
        parts = [axis[index] for axis, index in zip(self._axes, indices, strict=True)]
        return self._fixed | joined(parts)

    def resolve(self, indices: Indices) -> Resolved:
        """Return the point of a design and the contents that it has."""
        return self._resolver.resolve(self.choice(indices))

    def broken(self, design: Resolved) -> tuple[str, ...]:
        """Return the constraints that a design does not meet."""
        if design.error:
            return ()
        rules = self._constraints
        return tuple(rule.text for rule in rules if not rule.holds(design.look_up))

    def _covering(self) -> list[Indices]:
        """Few designs that have each alternative of each axis at least once."""
        return [tuple(number % count for count in self.shape) for number in range(max(self.shape))]


def _number(value: Scalar) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        quantity = parse_any_quantity(value)
        return quantity[0] if quantity else None
    return float(value)


def _numbers(axis: Sequence[Settings], key: str) -> list[float] | None:
    found = [_number(each[key]) for each in axis]
    numbers = [value for value in found if value is not None]
    return numbers if len(numbers) == len(found) else None


def _in_order(axis: list[Settings]) -> list[Settings]:
    """An axis of numbers in rising order, any other as it is."""
    (key, *others) = axis[0]
    numbers = None if others else _numbers(axis, key)
    if numbers is None:
        return axis
    return [axis[index] for index in sorted(range(len(axis)), key=numbers.__getitem__)]


def _is_rising(axis: Sequence[Settings]) -> bool:
    """Whether all keys of an axis rise, or fall, with its index."""
    columns = [_numbers(axis, key) for key in axis[0]]
    return all(
        column is not None and column in (sorted(column), sorted(column, reverse=True))
        for column in columns
    )
