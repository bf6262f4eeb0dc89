"""A generation: a prefill and the steps after it, each with one token more behind it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from accelsim.inference.cost import StepModel
from accelsim.inference.requests import Requests
from accelsim.inference.step_cost import StepCost
from accelsim.report.measured import has_unseen_traffic

Numbers = npt.NDArray[np.int64]
StepChoice = Literal["exact", "interpolated"]

_KNOTS = 9
"""Steps that are simulated where the others are interpolated; as many lie between them to check."""


@dataclass(frozen=True)
class Generation:
    """What a batch of equal requests costs."""

    prefill: StepCost
    decode: tuple[StepCost, ...]
    """Steps that were simulated, in order; all of them unless they are interpolated."""
    decode_time_s: float
    """Time of all steps after the prefill."""
    decode_energy_j: float
    num_steps: int
    """Steps after the prefill."""
    decode_off_s: float
    """Half of the 95 % interval of their time, as if all were off the same way."""
    error: float
    """Largest share by which the time of a simulated step differs from its interpolation; 0 where
    all are simulated."""

    @property
    def time_to_first_token_s(self) -> float:
        """Time of the prefill, which gives the first token."""
        return self.prefill.time_s

    @property
    def time_per_token_s(self) -> float:
        """Mean time of a step after the prefill; 0 without any."""
        return self.decode_time_s / self.num_steps if self.num_steps else 0.0

    @property
    def off_s(self) -> float:
        """Half of the 95 % interval of the time of all steps."""
        return self.prefill.off_s + self.decode_off_s

    @property
    def has_unseen_traffic(self) -> bool:
        """Whether bytes and energy are those of a sample that does not estimate them."""
        return any(
            has_unseen_traffic(each.report)
            for cost in (self.prefill, *self.decode)
            for each in cost.operations
        )

    @cached_property
    def middle(self) -> StepCost:
        """The simulated step in the middle of the generation, or the prefill without steps."""
        return self.decode[len(self.decode) // 2] if self.decode else self.prefill


def generate(model: StepModel, requests: Requests, steps: StepChoice) -> Generation:
    """Return what requests cost.

    The prefill gives the first token, so there are output - 1 steps. Interpolated steps lie on
    lines between those that are simulated; the error is measured at steps between them. Raises
    what the machine cannot run.
    """
    prefill, cached = model.cost(requests.prefill), np.array(requests.cached, np.int64)
    if steps == "exact" or len(cached) <= 2 * _KNOTS:
        decode = tuple(model.cost(requests.decode(int(each))) for each in cached)
        return Generation(
            prefill,
            decode,
            sum(each.time_s for each in decode),
            sum(each.energy_j for each in decode),
            len(cached),
            sum(each.off_s for each in decode),
            0.0,
        )
    return _interpolated(lambda each: model.cost(requests.decode(each)), prefill, cached)


def _interpolated(
    cost: Callable[[int], StepCost], prefill: StepCost, cached: Numbers
) -> Generation:
    chosen = cached[np.linspace(0, len(cached) - 1, 2 * _KNOTS - 1).round().astype(int)]
    costs = [cost(int(each)) for each in chosen]
    times = np.array([each.time_s for each in costs])
    joules = np.array([each.energy_j for each in costs])
    off_s = np.array([each.off_s for each in costs])
    return Generation(
        prefill,
        tuple(costs),
        float(np.interp(cached, chosen, times).sum()),
        float(np.interp(cached, chosen, joules).sum()),
        len(cached),
        float(np.interp(cached, chosen, off_s).sum()),
        _error_between(chosen, times),
    )


def _error_between(at: Numbers, times: npt.NDArray[np.float64]) -> float:
    """Return the largest share by which every second step differs from a line past it."""
    lines = np.interp(at[1::2], at[::2], times[::2])
    return float(np.abs(lines / times[1::2] - 1).max())
