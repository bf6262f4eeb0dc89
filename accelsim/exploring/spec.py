"""What an exploration file says: a sweep's axes, what is best, and how long to look for it."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from accelsim.config.spec import Seconds, Seed, Spec
from accelsim.errors import did_you_mean
from accelsim.sweeps.constraints import Constraint
from accelsim.sweeps.spec import SweepSpec

SAMPLERS = ("tpe", "nsga2", "nsga3", "gp", "quasi_random", "random")
MAX_BUDGET = 100_000
MAX_BATCH = 1_000
_ONE_PROBLEM = "allowed: one; what is best is best for one problem"


def _checked_limit(text: str) -> str:
    Constraint(text)
    return text


def _checked_sampler(name: str) -> str:
    if name in SAMPLERS:
        return name
    hint = did_you_mean(name, SAMPLERS)
    raise ValueError(f"found '{name}'{hint or ','} allowed: {', '.join(SAMPLERS)}")


class Budget(Spec):
    """When an exploration ends: what is used up first counts."""

    points: int | None = Field(None, ge=1, le=MAX_BUDGET)
    """Designs to look at, those that cannot run among them."""
    time: Annotated[Seconds, Field(gt=0)] | None = None
    """How long one call runs; the batch that it is at is finished. A call that goes on where
    another one stopped has all of it again."""

    @model_validator(mode="after")
    def _something_ends_it(self) -> "Budget":
        if self.points is None and self.time is None:
            raise ValueError("found neither points nor time, allowed: one of them or both")
        return self


class ExploreSpec(SweepSpec):
    """A design space as in a sweep, with objectives, a budget and a sampler."""

    minimize: tuple[str, ...] = ()
    """Columns of a row where less is better, such as `time_s`."""
    maximize: tuple[str, ...] = ()
    """Columns of a row where more is better, such as `tokens_per_s`."""
    limits: tuple[Annotated[str, AfterValidator(_checked_limit)], ...] = ()
    """Conditions on the columns of a row, such as `area_mm2 <= 400`: a design that breaks one is
    not on the front, and the sampler learns from it."""
    budget: Budget
    """When to end: points, time or both."""
    sampler: Annotated[str, AfterValidator(_checked_sampler)] = "tpe"
    """How designs are chosen: tpe, nsga2, nsga3, gp (a Gaussian process, for few designs that take
    long), quasi_random or random."""
    start: int = Field(8, ge=1, le=MAX_BUDGET)
    """Designs at the start that are spread evenly over the space, before the sampler chooses."""
    batch: int = Field(8, ge=1, le=MAX_BATCH)
    """Designs that are chosen at once and run side by side; the population of nsga2 and nsga3.
    What is chosen does not depend on the number of workers."""
    seed: Seed = 0
    """Seed of all choices: the same file and seed choose the same designs."""
    stop_after: int | None = Field(None, ge=1, le=MAX_BUDGET)
    """Batches in a row without a change of the front after which to end; absent: never."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """The columns to minimize, then those to maximize."""
        return (*self.minimize, *self.maximize)

    @model_validator(mode="after")
    def _objectives_are_named_once(self) -> "ExploreSpec":
        if not self.objectives:
            raise ValueError("found no objective, allowed: columns in minimize, maximize or both")
        for name in self.objectives:
            if self.objectives.count(name) > 1:
                raise ValueError(f"found the objective '{name}' twice, allowed: once")
        return self

    @model_validator(mode="after")
    def _there_is_one_problem(self) -> "ExploreSpec":
        swept = {*self.axes, *(key for group in self.zip for key in group)}
        if "workload" in swept:
            raise ValueError(f"found an axis 'workload', {_ONE_PROBLEM}")
        if len(self.workloads) > 1:
            raise ValueError(f"found {len(self.workloads)} workloads, {_ONE_PROBLEM}")
        return self


def load_exploration(source: str | Path) -> ExploreSpec:
    """Return the exploration that a file describes; raises ConfigError with all its mistakes."""
    from accelsim.config.loader import load_spec

    return load_spec(ExploreSpec, source, kind="sweep")
