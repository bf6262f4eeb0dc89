"""Rates, times and joules that others published of whole models in serving engines.

Each row is a closed loop of alike requests on one device, and what was published of it. What the
model says follows from its steps alone (`accelsim.inference.steady`). Nothing was fitted to a row.
Where the length of prompts is not known the row has a guess, and a short and a long length beside
it: each is compared, in kinds of their own. The published engines have hosts of their own, and the
model that of the system file: docs/published.md tells what follows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import floor
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveFloat, model_validator

from accelsim.config.spec import Size
from accelsim.inference.cost import StepModel
from accelsim.inference.memory import MemoryUse, check_fits, largest_batch, memory_use
from accelsim.inference.requests import Requests, check_length
from accelsim.inference.steady import ClosedLoop, SteadyState, cost_of
from accelsim.inference.stored_weights import weight_bytes
from accelsim.loading import load_devices
from accelsim.models.model import Model
from accelsim.models.step import Step
from accelsim.units import MILLI
from accelsim.validation.reference import Reference, Row

Source = Literal["ML.ENERGY", "TensorRT-LLM", "GPUStack"]
StoredFormat = Literal["bf16", "fp8_e4m3"]

_RATE = "output"
QUANTITIES = {
    _RATE: "output_tokens_per_s",
    "inter-token time": "median_inter_token_s",
    "power": "power_w",
    "energy a token": "energy_per_token_j",
}
"""What is compared -> its name in `SteadyState`."""
_SHORT, _LONG = ", short prompts", ", long prompts"


class PublishedStep(Row):
    """A closed loop in a serving engine, and what was published of it."""

    source: Source
    engine: str
    system: str
    """Name of a shipped system."""
    devices: Literal["1"]
    """Devices that the model is on."""
    model: str
    """Name of a shipped architecture."""
    weights: StoredFormat
    """Format of the linear maps of layers."""
    kv: StoredFormat
    """Format of the KV cache."""
    batch: Size
    """Requests in flight, where the memory holds as many."""
    memory_share: Annotated[float, Field(gt=0, le=1)]
    """Share of the memory that the engine takes."""
    step_tokens: Size
    """Most tokens of a step."""
    prompt: Size
    """Mean tokens of a prompt."""
    prompt_low: Size | None = None
    prompt_high: Size | None = None
    """What prompts may be instead, where their length is not known."""
    output: Size
    """Mean tokens of an answer."""
    output_variation: Annotated[float, Field(ge=0)]
    """Standard deviation of the tokens of an answer, over their mean."""
    tokens_per_s: PositiveFloat
    """Tokens of answers, of all requests."""
    inter_token_ms: PositiveFloat | None = None
    """Median."""
    power_w: PositiveFloat | None = None
    joule_per_token: PositiveFloat | None = None
    unknown: str
    """What is not known about the row."""

    @model_validator(mode="after")
    def _has_both_bounds_or_none(self) -> Self:
        if (self.prompt_low is None) != (self.prompt_high is None):
            raise ValueError("found one of prompt_low and prompt_high, allowed: both or none")
        return self


class Claim(PublishedStep):
    """One published value of a row, for prompts of one length."""

    what: str
    """Key of `QUANTITIES`."""
    prompts: str
    """Which of the lengths, where it is not `prompt` of the row."""
    value: PositiveFloat


def claims(rows: Sequence[PublishedStep]) -> list[Claim]:
    """Return each published value, and the rate once more for other lengths of prompts."""
    return [each for row in rows for each in _claims_of(row)]


def _claims_of(row: PublishedStep) -> Iterator[Claim]:
    time_s = row.inter_token_ms and row.inter_token_ms * MILLI
    values = (row.tokens_per_s, time_s, row.power_w, row.joule_per_token)
    for what, value in zip(QUANTITIES, values, strict=True):
        if value is not None:
            yield _claim(row, what=what, value=value)
    for prompts, length in ((_SHORT, row.prompt_low), (_LONG, row.prompt_high)):
        if length is not None:
            yield _claim(row, what=_RATE, prompt=length, prompts=prompts, value=row.tokens_per_s)


def _claim(row: PublishedStep, **more: Any) -> Claim:
    return Claim.model_construct(**(dict(row) | {"prompts": ""} | more))


def predict(row: Claim) -> float:
    """Return what the model says, in SI units."""
    loop = loop_of(row)
    found: float = getattr(_steady_state(_served(row), loop), QUANTITIES[row.what])
    return found


def loop_of(row: PublishedStep) -> ClosedLoop:
    """Return what a row runs: its requests in flight, or as many as the memory holds.

    A request takes the memory of its prompt and its whole answer; so engines count that never evict
    one. Raises DoesNotFitError where not even one fits.
    """
    served = _served(row)
    fits = _fitting(served, row.memory_share, row.step_tokens, row.prompt, row.output)
    requests = Requests(batch=min(row.batch, fits), prompt=row.prompt, output=row.output)
    return ClosedLoop(requests, row.step_tokens, row.output_variation)


@dataclass(frozen=True)
class _Served:
    """A model in its formats on a system."""

    system: str
    model: str
    weights: StoredFormat
    kv: StoredFormat

    @cached_property
    def costs(self) -> StepModel:
        """Costs of its steps, each operation simulated once."""
        model = Model(self.model, self.weights, self.kv)
        return StepModel(model.architecture, load_devices(self.system))


@cache
def _known(system: str, model: str, weights: StoredFormat, kv: StoredFormat) -> _Served:
    return _Served(system, model, weights, kv)


def _served(row: PublishedStep) -> _Served:
    return _known(row.system, row.model, row.weights, row.kv)


@cache
def _steady_state(served: _Served, loop: ClosedLoop) -> SteadyState:
    return SteadyState(loop, lambda step: cost_of(served.costs.cost(step)))


@cache
def _fitting(
    served: _Served, memory_share: float, step_tokens: int, prompt: int, output: int
) -> int:
    """Return how many requests fit beside the weights and the activations of the largest step."""
    costs, tokens = served.costs, prompt + output
    check_length(costs.architecture, tokens)
    capacity = floor(memory_share * costs.machine.hbm.capacity)
    weights_bytes = weight_bytes(costs, Step.decode(1, tokens - 1))

    def use_of(requests: int) -> MemoryUse:
        steps = (Step.decode(requests, tokens - 1), Step.prefill(1, step_tokens))
        return memory_use(
            costs.architecture, capacity, weights_bytes, lambda _: steps, requests, tokens
        )

    use, most = use_of(1), largest_batch(use_of)
    check_fits(use, most, 1, served.system)
    return most


def kind_of(row: Claim) -> str:
    """Return whose value it is, what of it, and for which prompts."""
    return f"{row.source} {row.what}{row.prompts}"


def label_of(row: Claim) -> str:
    """Return what ran, in a few words."""
    formats = "" if row.weights == "bf16" else f" {row.weights}"
    return (
        f"{row.model}{formats} on {row.system}, {row.engine}, up to {row.batch} x "
        f"{row.prompt} + {row.output}"
    )


REFERENCE: Reference[Any] = Reference(
    name="published-steps",
    summary="rates, times and joules published of whole models in serving engines",
    row=PublishedStep,
    file="published-steps.csv",
    quantity="output_tokens_per_s",
    quantities={
        f"{source} {what}": name for source in get_args(Source) for what, name in QUANTITIES.items()
    },
    kind_of=kind_of,
    label_of=label_of,
    value_of=lambda row: row.value,
    predict=predict,
    select=claims,
    unknown_of=lambda row: row.unknown,
)
