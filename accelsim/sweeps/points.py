"""From a sweep to its points: the whole grid, less what constraints exclude."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from accelsim.errors import ConfigError, unknown_name
from accelsim.library.recipe import LIBRARY
from accelsim.sweeps.axis import Scalar, axis_values
from accelsim.sweeps.constraints import Constraint
from accelsim.sweeps.contents import ReadContents
from accelsim.sweeps.free import free_keys
from accelsim.sweeps.resolve import Point, Resolved, Resolver, Settings, flat
from accelsim.sweeps.spec import SUBJECTS, SweepSpec

MAX_POINTS = 1_000_000
_NAME_IT = "name the kernels, such as kernels: [flash]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The points of a sweep in the order of its file, each design once."""

    points: list[Point]
    """What to run, and the points whose settings contradict each other."""
    version: str
    """Digest of accelsim's code, and of how much it schedules where the sweep says so."""
    num_excluded: int
    """Designs that a constraint left out."""
    free_keys: tuple[str, ...]
    """Swept fields of the machine that leave its area as it is."""


def expand(spec: SweepSpec, read: ReadContents, version: str, folder: Path = Path()) -> Grid:
    """Return the points of `spec`; the files it names are looked for in `folder` first.

    A kernel parameter counts for the kernels that have it. Raises an AccelsimError for what is
    wrong at every point: an unknown name or parameter, a setting that nothing accepts, a
    constraint that never applies, too many points.
    """
    choices = _choices(spec)
    resolver = Resolver(read, version, folder)
    check_names(choices, resolver)
    resolved = [resolver.resolve(choice) for choice in choices]
    if resolved[0].error and all(each.error for each in resolved):
        raise resolved[0].error
    fields = _differing(choices, resolver)
    told_apart = [each.with_columns(fields) for each in resolved]
    constrained = _constrained(told_apart, spec.constraints)
    kept = {each.point.id: each.point for each in constrained}
    excluded = {each.point.id for each in resolved} - kept.keys()
    machines = [each.contents["machine"] for each in resolved if each.contents]
    swept = dict.fromkeys(key for choice in choices for key in choice if key not in spec.settings)
    return Grid(
        points=list(kept.values()),
        version=version,
        num_excluded=len(excluded),
        free_keys=free_keys(swept, machines),
    )


def _choices(spec: SweepSpec) -> list[Settings]:
    """Every combination; the last axis varies fastest."""
    axes = axes_of(spec)
    size = prod(len(axis) for axis in axes)
    if size > MAX_POINTS:
        raise ConfigError([f"sweep '{spec.name}': found {size} points, allowed: {MAX_POINTS}"])
    combinations = itertools.product(*axes)
    return [dict(spec.settings, **joined(parts)) for parts in combinations]


def axes_of(spec: SweepSpec) -> list[list[Settings]]:
    """Return one list of alternatives per axis: subjects, axes and zipped groups as in the file."""
    machines = (spec.machine,) if spec.machine else ()
    swept = {*spec.axes, *(key for group in spec.zip for key in group)}
    kernels = spec.kernels or (() if "kernel" in swept else (LIBRARY,))
    subjects = zip(SUBJECTS, (machines, spec.workloads, kernels), strict=True)
    axes: list[list[Settings]] = [
        [{subject: name} for name in names] for subject, names in subjects if names
    ]
    axes += [[{key: value} for value in axis_values(axis)] for key, axis in spec.axes.items()]
    for group in spec.zip:
        rows = zip(*group.values(), strict=True)
        axes.append([dict(zip(group, row, strict=True)) for row in rows])
    return axes


def joined(parts: Sequence[Settings]) -> Settings:
    """Return the settings of one alternative of each axis."""
    return {key: value for part in parts for key, value in part.items()}


def check_names(choices: list[Settings], resolver: Resolver) -> None:
    """Read every document as it is, so that a misspelt name is an error and not a point.

    Raises an AccelsimError for the first name that nobody knows.
    """
    named = dict.fromkeys((subject, choice[subject]) for choice in choices for subject in SUBJECTS)
    documents = {each: resolver.contents(*each) for each in named}
    parameters = {
        key for (kind, _), contents in documents.items() if kind == "kernel" for key in contents
    }
    for key in dict.fromkeys(key for choice in choices for key in choice):
        if "." in key or key in SUBJECTS or key in parameters:
            continue
        if not parameters:
            raise ConfigError(
                [f"{key}: found no kernel that it could be a parameter of; {_NAME_IT}"]
            )
        raise unknown_name("kernel parameter", key, parameters)


def _differing(choices: list[Settings], resolver: Resolver) -> list[str]:
    """Return the fields in which files differ that call their machine or workload the same."""
    values: dict[tuple[str, str], set[Scalar | None]] = {}
    for kind in ("machine", "workload"):
        for source in dict.fromkeys(choice[kind] for choice in choices):
            contents = resolver.contents(kind, source)
            for field, value in flat(contents):
                values.setdefault((contents["name"], f"{kind}.{field}"), set()).add(value)
    return list(dict.fromkeys(field for (_, field), found in values.items() if len(found) > 1))


def _constrained(resolved: list[Resolved], texts: Sequence[str]) -> list[Resolved]:
    """Keep what meets every constraint, and what has no values to check."""
    constraints = constraints_on(resolved, texts)
    return [each for each in resolved if all(rule.holds(each.look_up) for rule in constraints)]


def constraints_on(resolved: Sequence[Resolved], texts: Sequence[str]) -> list[Constraint]:
    """Return the constraints; raises ConfigError for a name that none of the designs has."""
    constraints = [Constraint(text) for text in texts]
    designs = [each for each in resolved if not each.error]
    for constraint in constraints:
        for name in sorted(constraint.names):
            if all(each.look_up(name) is None for each in designs):
                message = f"constraint '{constraint.text}': '{name}' has no value at any point"
                raise ConfigError([message])
    return constraints
