"""Speculative decoding: a small model drafts tokens, the model checks all of them in one step.

A turn with drafts of k tokens is k steps of the draft and one step of the model with k + 1 new
tokens of each sequence, all of which need logits. Its mean number of tokens follows from what is
accepted (Leviathan et al., arXiv 2211.17192). Where a whole draft was kept, the draft has not read
its own last token, and its next step has two new tokens.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from accelsim.errors import AccelsimError, WorkloadError
from accelsim.inference.acceptance import ASSUMED_RATE, Acceptance, given_acceptance
from accelsim.inference.cost import StepModel
from accelsim.inference.drafting import drafting_of
from accelsim.inference.memory import MemoryUse, check_fits, device_use, largest_batch
from accelsim.inference.report import Inference
from accelsim.inference.requests import Requests
from accelsim.inference.step_cost import StepCost
from accelsim.library.kernels import Kernels
from accelsim.models.architecture import Architecture
from accelsim.models.model import Model
from accelsim.models.step import Sequences, Step
from accelsim.workload.drafting import Drafting

if TYPE_CHECKING:
    from rich.console import Group

_LENGTHS = range(1, 9)
"""Lengths that are told beside the one that is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of drafting and checking in the middle of a generation; length 0: a plain step."""

    length: int
    """Tokens of a draft."""
    tokens: float
    """Mean tokens of each sequence that a turn gives."""
    draft_time_s: float
    time_s: float
    """Of the draft's steps and of the check."""
    energy_j: float

    @property
    def time_per_token_s(self) -> float:
        """Time of a turn over its tokens."""
        return self.time_s / self.tokens

    def energy_per_token_j(self, batch: int) -> float:
        """Return the energy of a turn over the tokens of all sequences."""
        return self.energy_j / (self.tokens * batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """A batch of equal requests with a draft."""

    draft: str
    batch: int
    length: int
    """Tokens of a draft: what was asked for, or the best."""
    best_length: int
    """Length of the shortest time per token; 0: a draft is of no use."""
    acceptance: Acceptance
    turns: tuple[Turn, ...]
    """A plain step, and turns of each length."""
    context_error: float
    """Share by which the time of a turn in the middle of the generation differs from the mean over
    it, by Simpson's rule."""
    time_to_first_token_s: float
    """Of both prefills: an engine drafts before it answers."""
    time_s: float
    """From the begin of the prefill to the last token."""
    energy_j: float
    energy_per_token_j: float
    """Energy over output tokens, the prefills included."""
    tokens_per_s: float
    """Output tokens of all requests over the time."""
    memory: MemoryUse
    """Of both models."""

    @property
    def turn(self) -> Turn:
        """The turn of the chosen length."""
        return next(each for each in self.turns if each.length == self.length)

    @property
    def speedup(self) -> float:
        """Time per token of plain steps over that with drafts."""
        return self.turns[0].time_per_token_s / self.turn.time_per_token_s

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain nested data for JSON."""
        left_out = ("acceptance", "turns", "memory")
        own = {name: getattr(self, name) for name in self.__slots__ if name not in left_out}
        memory = {name: getattr(self.memory, name) for name in MemoryUse.__dataclass_fields__}
        return own | {
            "tokens_per_turn": self.turn.tokens,
            "time_per_token_s": self.turn.time_per_token_s,
            "speedup": self.speedup,
            "accepted_shares": [self.acceptance.share(each) for each in range(1, self.length + 1)],
            "acceptance_source": self.acceptance.source,
            "memory": memory | {"free_bytes": self.memory.free_bytes},
            "turns": [self._row(each) for each in self.turns],
        }

    def to_row(self) -> dict[str, Any]:
        """Return columns of a table, whose names begin with `speculation_`."""
        told = self.to_dict()
        nested = ("draft", "batch", "accepted_shares", "acceptance_source", "memory", "turns")
        own = {name: value for name, value in told.items() if name not in nested}
        own["free_bytes"] = self.memory.free_bytes
        return {f"speculation_{name}": value for name, value in own.items()}

    def _row(self, turn: Turn) -> dict[str, Any]:
        return {
            **{name: getattr(turn, name) for name in turn.__slots__},
            "time_per_token_s": turn.time_per_token_s,
            "energy_per_token_j": turn.energy_per_token_j(self.batch),
        }

    def __rich__(self) -> "Group":
        from accelsim.inference.display import speculation_tables

        return speculation_tables(self)


def speculate(inference: Inference, asked: Drafting | str) -> Speculation:
    """Return what a draft makes of a batch of requests that `infer` has simulated.

    asked: a text such as "draft=smollm2-135m, linear=tender, length=4, acceptance=0.8" or a value.
    Draft and model share the devices. Raises an AccelsimError for anything wrong with the input;
    DoesNotFitError where both models do not fit together.
    """
    drafting = drafting_of(asked) if isinstance(asked, str) else asked
    costs, requests = inference.costs, inference.requests
    draft = _draft_model(drafting, costs)
    lengths = sorted({*_LENGTHS, drafting.length or 1})
    _check_length(costs.architecture, draft.architecture, requests.tokens + lengths[-1])
    memory = _memory(inference, draft, lengths[-1])
    pair = _Pair(costs, draft, acceptance_of(drafting), requests)
    middle = requests.prompt + (requests.output - 1) // 2
    turns = (pair.plain(middle), *(pair.turn(each, middle) for each in lengths))
    best = min(turns, key=lambda each: each.time_per_token_s).length
    length = drafting.length or best or 1
    (chosen,) = (each for each in turns if each.length == length)
    return _whole(inference, drafting, pair, chosen, turns=turns, best_length=best, memory=memory)


def _whole(
    inference: Inference, drafting: Drafting, pair: "_Pair", chosen: Turn, **told: Any
) -> Speculation:
    """Return the figures of whole requests."""
    requests = inference.requests
    first = pair.draft.cost(requests.prefill)
    behind = (requests.output - 1) / chosen.tokens
    time_to_first_token_s = inference.time_to_first_token_s + first.time_s
    time_s = time_to_first_token_s + behind * chosen.time_s
    prefill_j = inference.prefill.energy_j + first.energy_j
    energy_j = prefill_j + behind * chosen.energy_j
    ends = [
        pair.turn(chosen.length, each).time_s for each in (requests.prompt, requests.tokens - 1)
    ]
    mean_s = (ends[0] + 4 * chosen.time_s + ends[1]) / 6
    return Speculation(
        draft=drafting.draft,
        batch=requests.batch,
        length=chosen.length,
        acceptance=pair.acceptance,
        context_error=abs(chosen.time_s / mean_s - 1),
        time_to_first_token_s=time_to_first_token_s,
        time_s=time_s,
        energy_j=energy_j,
        energy_per_token_j=energy_j / requests.output_tokens,
        tokens_per_s=requests.output_tokens / time_s,
        **told,
    )


@dataclass(frozen=True)
class _Pair:
    """A model and its draft, for a batch of sequences."""

    target: StepModel
    draft: StepModel
    acceptance: Acceptance
    requests: Requests

    def plain(self, cached: int) -> Turn:
        """Return a step without a draft."""
        cost = self.target.cost(self.requests.decode(cached))
        return Turn(
            length=0,
            tokens=1.0,
            draft_time_s=0.0,
            time_s=cost.time_s,
            energy_j=cost.energy_j,
        )

    def turn(self, length: int, cached: int) -> Turn:
        """Return a turn behind so many tokens that the target has read."""
        passes = self._passes(length, cached)
        times = [(share, cost.time_s, cost.energy_j) for share, cost in passes]
        check = self.target.cost(check_of(self.requests.batch, length, cached))
        draft_time_s = sum(share * each for share, each, _ in times)
        return Turn(
            length=length,
            tokens=self.acceptance.tokens_per_turn(length),
            draft_time_s=draft_time_s,
            time_s=draft_time_s + check.time_s,
            energy_j=sum(share * each for share, _, each in times) + check.energy_j,
        )

    def _passes(self, length: int, cached: int) -> list[tuple[float, StepCost]]:
        """Return steps of the draft, each with its share of the turns."""
        kept = self.acceptance.share(length)
        two = Step((Sequences(2, cached - 1, self.requests.batch),))
        later = [self.requests.decode(cached + place) for place in range(1, length)]
        first = self.requests.decode(cached)
        steps = [(1 - kept, first), (kept, two), *((1.0, each) for each in later)]
        return [(share, self.draft.cost(step)) for share, step in steps if share > 0]


def check_of(batch: int, length: int, cached: int) -> Step:
    """Return the step that checks drafts: every row needs logits."""
    new = length + 1
    return Step((Sequences(new, cached, batch, sampled=new),))


def acceptance_of(drafting: Drafting) -> Acceptance:
    """Return what is asked for, or the assumption; raises WorkloadError."""
    if drafting.acceptance is None:
        return Acceptance.of_rates([ASSUMED_RATE], "assumed")
    return given_acceptance(drafting.acceptance, drafting.sampling)


def draft_of(drafting: Drafting) -> tuple[Model, Kernels]:
    """Return the model that drafts and its kernels; raises an AccelsimError."""
    try:
        kernels = Kernels.or_library(drafting.attention, drafting.linear)
        return Model(drafting.draft, drafting.weights, drafting.kv), kernels
    except AccelsimError as error:
        raise error.at("speculate") from None


def _draft_model(drafting: Drafting, target: StepModel) -> StepModel:
    """Return the costs of the draft; raises WorkloadError for one of another vocabulary."""
    model, kernels = draft_of(drafting)
    architecture = model.architecture
    found, wanted = architecture.vocabulary, target.architecture.vocabulary
    if found != wanted:
        raise WorkloadError(
            f"speculate: draft {drafting.draft}: found a vocabulary of {found:,} tokens, allowed: "
            f"{wanted:,}, that of the model; a draft writes what the model reads"
        )
    return replace(target, architecture=architecture, kernels=kernels)


def _check_length(target: Architecture, draft: Architecture, tokens: int) -> None:
    """Refuse more tokens than a model reads; the last draft may go past the output."""
    for name, each in (("model", target), ("draft", draft)):
        if each.max_tokens is not None and tokens > each.max_tokens:
            raise WorkloadError(
                f"speculate: found {tokens} tokens of prompt, output and draft, allowed: "
                f"{each.max_tokens}, the longest context of the {name}"
            )


def _memory(inference: Inference, draft: StepModel, length: int) -> MemoryUse:
    """Return what both models take; raises DoesNotFitError."""
    requests = inference.requests
    tokens = requests.tokens + length

    def steps_of(count: int) -> tuple[Step, Step]:
        last = check_of(count, length, tokens - length - 1)
        return Step.prefill(count, requests.prompt), last

    uses = [device_use(each, steps_of, tokens) for each in (inference.costs, draft)]

    def use_of(sequences: int) -> MemoryUse:
        return _together(*(use(sequences) for use in uses))

    use = use_of(requests.batch)
    check_fits(use, largest_batch(use_of), requests.batch, inference.system)
    return use


def _together(target: MemoryUse, draft: MemoryUse) -> MemoryUse:
    """Return what both hold; they do not compute at the same time."""
    return MemoryUse(
        capacity_bytes=target.capacity_bytes,
        weights_bytes=target.weights_bytes + draft.weights_bytes,
        kv_bytes=target.kv_bytes + draft.kv_bytes,
        activation_bytes=max(target.activation_bytes, draft.activation_bytes),
    )
