"""Whether a model with kernels in it still finds a fact that lies somewhere in a long text.

A pass key is planted in real text and asked for at the end (Mohtashami and Jaggi, arXiv 2305.16300;
Kamradt, "Needle in a haystack", 2023). Perplexity averages over all tokens, most of which need the
last few keys only; here everything depends on a few keys that are far away. A prompt is read once
together with the right answer: the most likely token is right at every place of the answer if and
only if greedy decoding gives the answer.

The kernels under test compute all rows of the prompt, or, as a model is served, only the question
and the answer: the text with the needle is read at once before, and each token after it is decoded
over its keys and values (so does the pass-key test of Tang et al., Quest, arXiv 2406.10774).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.quality.chosen import ChosenKernels, choose_kernels
from accelsim.quality.needle_report import NeedleReport, Retrieval
from accelsim.quality.overflow import warn_of_overflow
from accelsim.quality.passes import KernelNetwork, Passes, Progress, Window, ignored
from accelsim.quality.predictions import Predictions
from accelsim.quality.search import Search
from accelsim.simulation import shortages_explained
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.texts import DEFAULT_KIND, Sources, Text, read_texts

_NEEDLE = "\nThe pass key is {key}.\n"
_QUESTION = "\n\nThe pass key is"
_ANSWER = " {key}"
_DIGITS = 5
FEWEST_TRIALS = 2
"""One trial has no standard error."""


class _Haystack(NamedTuple):
    """A text to plant needles in."""

    network: LanguageModel
    text: Text
    ids: list[int]
    decodes: bool
    """Whether question and answer are decoded."""

    def window(self, length: int, depth: float, key: str, share: float) -> Window:
        """Return a prompt with the answer, which is judged.

        Its pages start after a share of what the text can spare.
        """
        needle, question, answer = self._pieces(key)
        size = length - len(needle) - len(question)
        start = round(share * (len(self.ids) - size))
        pages = self.network.opened(self.ids[start : start + size])
        place = max(round(depth * size), self.network.tokenizer.opening_tokens)
        read = pages[:place] + needle + pages[place:]
        prompt = len(read) if self.decodes else 0
        return Window(read + question + answer, prompt, len(answer))

    def check(self, search: Search) -> None:
        """Raise WorkloadError for lengths that needle, model or text do not allow."""
        needle, question, answer = map(len, self._pieces("0" * _DIGITS))
        context = self.network.weights.config.context
        fewest, most = needle + question + 1, context + 1 - answer
        for length in search.lengths:
            if not fewest <= length <= most:
                raise WorkloadError(
                    f"length: found {length} tokens, allowed: {fewest} to {most}; needle and "
                    f"question take {needle + question}, and model '{self.network.name}' reads "
                    f"{context} at once, the answer with them"
                )
            size = length - needle - question
            if len(self.ids) < size + search.trials - 1:
                raise WorkloadError(
                    f"text {self.text.name}: found {len(self.ids)} tokens, allowed: "
                    f"{size + search.trials - 1} or more for {search.trials} prompts of "
                    f"{length} tokens from different pages"
                )

    def _pieces(self, key: str) -> tuple[list[int], list[int], list[int]]:
        encode = self.network.tokenizer.encode
        return encode(_NEEDLE.format(key=key)), encode(_QUESTION), encode(_ANSWER.format(key=key))


def find_needles(
    model: str,
    kernels: Kernels | Recipe | str,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    text: Sources = DEFAULT_KIND,
    search: Search | None = None,
    *,
    prefill: Recipe | str | None = None,
    progress: Progress = ignored,
) -> NeedleReport:
    """Return how often a model finds pass keys in texts, with kernels and in FP32.

    Kernels, settings and texts are those of `evaluate`. All rows of a prompt are computed by the
    kernels, as in `evaluate`, or only those of question and answer (`search.decode`). Warns of
    outputs that are not finite. Raises an AccelsimError for anything that is wrong with the input.
    """
    (report,) = compare_needles(
        model,
        [kernels],
        settings,
        machine,
        text,
        search,
        prefill=prefill,
        progress=progress,
    )
    return report


def compare_needles(
    model: str,
    kernels: Sequence[Kernels | Recipe | str],
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    text: Sources = DEFAULT_KIND,
    search: Search | None = None,
    *,
    prefill: Recipe | str | None = None,
    progress: Progress = ignored,
) -> list[NeedleReport]:
    """Return what `find_needles` does for each of `kernels`; FP32 reads a prompt once for all."""
    search = Search() if search is None else search
    settings = settings or {}
    choices = [choose_kernels(each, settings, machine, prefill) for each in kernels]
    _check(search, prefill)
    network = load_model(model)
    texts = read_texts(text)
    stacks = [
        _Haystack(network, each, network.tokenizer.encode(each.content), search.decode)
        for each in texts
    ]
    for stack in stacks:
        stack.check(search)
    places = [(length, depth) for length in search.lengths for depth in search.depths]
    prompts = len(places) * search.trials * len(stacks)
    passes = Passes(network, choices, prompts, progress, with_prompts=search.decode)
    windows = [
        [stack.window(length, depth, key, share) for length, depth in places]
        for stack, key, share in _trials(stacks, search)
    ]
    with shortages_explained(" and ".join(chosen.names for chosen in choices)):
        found = [[passes.read(window) for window in trial] for trial in windows]
    told: dict[str, Any] = {
        "model": network.name,
        "texts": tuple((each.name, each.sha256) for each in texts),
        "search": search._asdict(),
        "tokens": sum(window.behind for trial in windows for window in trial),
    }
    return [
        _report(*own, places, ", ".join(each.name for each in texts), told)
        for own in zip(choices, passes.kernels, _by_kernel(found), strict=True)
    ]


Found = list[list[Predictions]]
"""Of every trial, the answers at all places."""


def _by_kernel(found: Sequence[Sequence[Sequence[Predictions]]]) -> Iterator[Found]:
    """Yield for each choice of kernels what was found; `found` has it for each place of a trial."""
    for number in range(len(found[0][0])):
        yield [[answers[number] for answers in trial] for trial in found]


def _report(
    chosen: ChosenKernels,
    kernels: KernelNetwork,
    found: Found,
    places: Sequence[tuple[int, float]],
    texts: str,
    told: dict[str, Any],
) -> NeedleReport:
    """Return the report of one choice of kernels; told: what all of them have in common."""
    warn_of_overflow(kernels)
    return NeedleReport(
        dtype=chosen.dtype,
        places=tuple(_of_places(places, found)),
        total=Retrieval.of(found),
        **(told | kernels.costs(texts)),
    )


def _trials(stacks: Sequence[_Haystack], search: Search) -> Iterator[tuple[_Haystack, str, float]]:
    """Yield text, key and share of the text before the pages, which all places have in common."""
    rng = np.random.default_rng(search.seed)
    for stack in stacks:
        for trial in range(search.trials):
            key = "".join(map(str, rng.integers(0, 10, _DIGITS)))
            yield stack, key, trial / max(search.trials - 1, 1)


def _of_places(
    places: Sequence[tuple[int, float]], found: Sequence[Sequence[Predictions]]
) -> Iterator[tuple[int, float, Retrieval]]:
    for (length, depth), column in zip(places, zip(*found, strict=True), strict=True):
        yield length, depth, Retrieval.of([[each] for each in column])


def _check(search: Search, prefill: Recipe | str | None) -> None:
    if prefill is not None and not search.decode:
        raise WorkloadError(
            f"prefill: found {prefill}, and all rows are computed by the kernel; "
            "allowed: with --decode"
        )
    for name, values in (("length", search.lengths), ("depth", search.depths)):
        if not values:
            raise WorkloadError(f"found no {name}; allowed: one or more")
        if len(set(values)) < len(values):
            raise WorkloadError(f"{name}: found {values[-1]} twice, allowed: every {name} once")
    for depth in search.depths:
        if not 0 <= depth <= 1:
            raise WorkloadError(f"depth: found {depth}, allowed: 0 to 1, the share before the key")
    if search.trials < FEWEST_TRIALS:
        raise WorkloadError(f"trials: found {search.trials}, allowed: {FEWEST_TRIALS} or more")
