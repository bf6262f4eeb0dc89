"""Which design to look at next: Optuna's samplers over the indices of a design space."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

from accelsim.exploring.packages import distributions, optuna, package, quiet
from accelsim.exploring.space import DesignSpace, Indices
from accelsim.exploring.spec import MAX_BUDGET, ExploreSpec

_DRAWS = 10_000
"""Designs drawn in search of one that is new and allowed, before all are gone through."""
_MOST_GONE_THROUGH = 1_000_000
_PACKAGES = {"gp": ("torch", "pip install torch")}
"""Sampler -> what it needs beyond the extra, and how to get it."""


class Asker:
    """Asks for designs and is told what became of them; equal seeds ask for equal designs."""

    def __init__(self, space: DesignSpace, spec: ExploreSpec) -> None:
        """Raises ShortageError for a package that is not installed."""
        self._shape, self._random = space.shape, random.Random(spec.seed)
        library = optuna()
        if spec.sampler in _PACKAGES:
            name, advice = _PACKAGES[spec.sampler]
            package(name, f"the sampler {spec.sampler}", advice)
        self._distributions = distributions(space.names, space.shape, space.is_ordered)
        self._visited: set[Indices] = set()
        directions = ["minimize"] * len(spec.objectives)
        with quiet():
            sampler = _sampler(library, spec)
            self._study = library.create_study(directions=directions, sampler=sampler)
            for indices in _first(space, spec):
                self._study.enqueue_trial(self._parameters(indices))

    def ask(self) -> tuple[Any, Indices]:
        """Return a trial, to be told of later, and its design; it may have been asked before."""
        with quiet():
            trial = self._study.ask(self._distributions)
        indices = tuple(trial.params[name] for name in self._distributions)
        self._visited.add(indices)
        return trial, indices

    def ask_another(self, is_allowed: Callable[[Indices], bool]) -> tuple[Any, Indices] | None:
        """Return a design drawn evenly from those that are allowed and were never asked for.

        None where there is no other, or where so few are allowed that none is found.
        """
        new = (each for each in self._unvisited() if is_allowed(each))
        indices = next(new, None)
        if indices is None:
            return None
        self._study.enqueue_trial(self._parameters(indices))
        return self.ask()

    def tell(self, trial: Any, costs: Sequence[float], violation: float) -> None:
        """Say what a design costs and by how much it breaks what it must meet, 0 if it does not."""
        with quiet():
            trial.set_constraint("violation", violation)
            self._study.tell(trial, list(costs))

    def _unvisited(self) -> Iterator[Indices]:
        for _ in range(_DRAWS):
            drawn = tuple(self._random.randrange(count) for count in self._shape)
            if drawn not in self._visited:
                yield drawn
        if prod(self._shape) <= _MOST_GONE_THROUGH:
            every = product(*(range(count) for count in self._shape))
            yield from (each for each in every if each not in self._visited)

    def _parameters(self, indices: Indices) -> dict[str, int]:
        return dict(zip(self._distributions, indices, strict=True))


def _first(space: DesignSpace, spec: ExploreSpec) -> list[Indices]:
    """Return the designs that are looked at before the sampler chooses."""
    if spec.sampler == "random":
        return []
    count = spec.start
    if spec.sampler == "quasi_random":
        count = min(spec.budget.points or MAX_BUDGET, space.num_designs)
    return spread(space.shape, count, spec.seed)


def spread(shape: Indices, count: int, seed: int) -> list[Indices]:
    """Return `count` designs evenly over the space: a scrambled Halton sequence (Owen 2017)."""
    qmc = package("scipy.stats").qmc
    places = qmc.Halton(len(shape), scramble=True, rng=seed).random(count)
    return [
        tuple(int(place * size) for place, size in zip(row, shape, strict=True))
        for row in places.tolist()
    ]


def _num_good(num_designs: int) -> int:
    """Designs that TPE learns from as good ones: a front has more than a single optimum has."""
    return max(num_designs // 4, 1)


def _sampler(library: Any, spec: ExploreSpec) -> Any:
    samplers, size, seed = library.samplers, max(spec.batch, 2), spec.seed
    match spec.sampler:
        case "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=size)
        case "nsga3":
            return samplers.NSGAIIISampler(seed=seed, population_size=size)
        case "tpe":
            return samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=spec.start, gamma=_num_good
            )
        case "gp":
            return samplers.GPSampler(
                seed=seed, n_startup_trials=spec.start, deterministic_objective=True
            )
    return samplers.RandomSampler(seed=seed)
