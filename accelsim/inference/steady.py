"""Continuous batching at its steady state: requests in flight, each replaced when it ends.

Mean values of a schedule as engines have it (vLLM V1, TensorRT-LLM in flight): a step has one token
of each sequence that decodes, and pieces of prompts beside them, at most so many tokens in all. No
single request is followed: no queue, no request that arrives or waits by chance.

A request computes `prompt + output - 1` tokens, its prompt in k equal pieces, the last of which
gives the first token. It is in flight for S steps, the longer of

- `output - 1 + k`, where a step has room for the pieces that come up, and
- `batch * (prompt + output - 1) / step_tokens`, where it has not, and prompts wait for tokens.

So a step decodes `batch * (output - 1) / S` sequences and has `batch * k / S` pieces, and in S
steps `batch` requests end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, exp, floor

from accelsim.errors import WorkloadError
from accelsim.inference.requests import Requests
from accelsim.inference.step_cost import StepCost
from accelsim.models.step import Sequences, Step

_CONTEXTS = 4
"""Lengths that stand for those of all sequences that decode."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Alike requests, of which so many are in flight at any time."""

    requests: Requests
    """Those in flight; `output` is the mean of their answers."""
    step_tokens: int
    """Most tokens of a step."""
    output_variation: float = 0.0
    """Standard deviation of the tokens of an answer, over their mean."""

    def __post_init__(self) -> None:
        """Refuse what cannot be; raises WorkloadError."""
        if self.step_tokens < 1:
            raise WorkloadError(f"step_tokens: found {self.step_tokens}, allowed: 1 or more")
        if not self.output_variation >= 0:
            found = self.output_variation
            raise WorkloadError(f"output_variation: found {found:g}, allowed: 0 or more")

    @property
    def pieces(self) -> int:
        """Steps that a prompt takes: what decodes leaves it that room."""
        asked = self.requests
        decoding = asked.batch * (asked.output - 1) / max(asked.output, self._steps_of_tokens)
        return ceil(asked.prompt / max(1, floor(self.step_tokens - decoding)))

    @property
    def steps(self) -> float:
        """Steps in which a request is in flight."""
        return max(self.requests.output - 1 + self.pieces, self._steps_of_tokens)

    @property
    def _steps_of_tokens(self) -> float:
        return self.requests.batch * (self.requests.tokens - 1) / self.step_tokens

    @property
    def decoding(self) -> float:
        """Mean sequences of a step with one token each."""
        return self.requests.batch * (self.requests.output - 1) / self.steps

    @property
    def rows(self) -> int:
        """The same as a whole number, which a step needs."""
        return max(1, round(self.decoding)) if self.decoding else 0

    @property
    def pieces_a_step(self) -> float:
        """Mean pieces of prompts of a step."""
        return self.requests.batch * self.pieces / self.steps

    @property
    def reach(self) -> float:
        """Tokens of its answer that a sequence has behind it, twice their mean over all in flight.

        Long answers are in flight for longer: with lengths L the mean is E[L^2] / (2 E[L]).
        """
        return self.requests.output * (1 + self.output_variation**2)

    def step(self, pieces: int) -> Step:
        """Return the mean step with so many pieces of prompts; raises WorkloadError without any."""
        groups = min(_CONTEXTS, self.rows)
        found = [
            Sequences(
                1,
                self.requests.prompt + floor(self.reach * (number + 0.5) / groups),
                self.rows // groups + (number < self.rows % groups),
            )
            for number in range(groups)
        ]
        if pieces:
            new = ceil(self.requests.prompt / self.pieces)
            behind = (self.requests.prompt - new) // 2
            found.append(Sequences(new, behind, pieces, sampled=int(self.pieces == 1)))
        return Step(tuple(found))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step costs: seconds, and joules of the device."""

    time_s: float
    energy_j: float


def cost_of(step: StepCost) -> Cost:
    """Return the cost of a step; the device stands by while it waits for the host."""
    measured = step.measured
    standby_w = measured.energy_by_component_j["static"] / measured.time_s
    return Cost(step.time_s, measured.energy_j + standby_w * step.host_s)


@dataclass(frozen=True)
class SteadyState:
    """What a closed loop costs."""

    loop: ClosedLoop
    cost: Callable[[Step], Cost]
    """Of any step."""

    @cached_property
    def _kinds(self) -> dict[int, tuple[float, Cost]]:
        """Pieces of prompts in a step -> share of such steps, and their cost.

        The mean lies between the two whole numbers beside it, as costs are nearly linear there.
        """
        mean = self.loop.pieces_a_step
        least = floor(mean)
        shares = {least: 1 - (mean - least), least + 1: mean - least}
        return {
            pieces: (share, self.cost(self.loop.step(pieces)))
            for pieces, share in shares.items()
            if share
        }

    @property
    def step_s(self) -> float:
        """Mean time of a step."""
        return sum(share * cost.time_s for share, cost in self._kinds.values())

    @property
    def step_j(self) -> float:
        """Mean energy of a step."""
        return sum(share * cost.energy_j for share, cost in self._kinds.values())

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens of answers, of all requests, over the time."""
        return self.loop.requests.output_tokens / self.loop.steps / self.step_s

    @property
    def median_inter_token_s(self) -> float:
        """Median time from a token of a sequence to its next one: of a step with the median pieces.

        Answers of any lengths end by chance, so pieces of prompts in a step are a Poisson number.
        """
        usual = _median_of_poisson(self.loop.pieces_a_step)
        known = self._kinds.get(usual)
        return (known[1] if known else self.cost(self.loop.step(usual))).time_s

    @property
    def power_w(self) -> float:
        """Mean power of the device."""
        return self.step_j / self.step_s

    @property
    def energy_per_token_j(self) -> float:
        """Energy of the device over tokens of answers."""
        return self.power_w / self.output_tokens_per_s


def _median_of_poisson(mean: float) -> int:
    """Return the smallest number that a Poisson variable does not exceed in half of all cases."""
    number, chance = 0, exp(-mean)
    below = chance
    while below < 0.5:
        number += 1
        chance *= mean / number
        below += chance
    return number
