"""Names of layers of shipped models and of their operations, such as `llama-3-8b/prefill-4096/qkv`.

A name is `MODEL[/layer-NUMBER]/STEP[/OPERATION]`. A step is `prefill-TOKENS` or `decode-TOKENS`,
and `xSEQUENCES` behind it says how many sequences there are. TOKENS is how long a sequence is when
the step ends: `decode-4096` computes one token behind 4,095 (decision 0068).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from accelsim.config.shipped import known_names, locate
from accelsim.errors import AccelsimError, UnknownNameError, did_you_mean, unknown_name
from accelsim.models.loading import load_architecture
from accelsim.models.operations.layer import layer_of
from accelsim.models.step import Step
from accelsim.workload.problem import LayerProblem, Problem

FORMS = (
    "MODEL/prefill-4096, MODEL/decode-4096, either with x8 for 8 sequences, /layer-3 behind MODEL "
    "for another layer than the first, and /OPERATION at the end for one of its operations"
)
"""What is allowed, for messages."""

_STEP = r"(?P<phase>prefill|decode)-(?P<tokens>[1-9]\d{0,8})"
_BEHIND_MODEL = re.compile(
    rf"(?:layer-(?P<number>\d{{1,4}})/)?{_STEP}(?:x(?P<sequences>[1-9]\d{{0,8}}))?"
    r"(?:/(?P<operation>[^/]+))?"
)
_OLD = re.compile(rf"(?P<model>[^/]+)-{_STEP}(?:-(?P<rest>[^/]+))?")
_EXAMPLES = ("prefill-4096", "decode-4096")


@dataclass(frozen=True, slots=True)
class LayerName:
    """What a name asks for."""

    text: str
    model: str
    """Name of a shipped architecture."""
    number: int
    phase: str
    """`prefill` or `decode`."""
    tokens: int
    """Of a sequence when the step ends."""
    sequences: int
    operation: str | None
    """With hyphens for spaces; None for the whole layer."""

    @classmethod
    def parse(cls, text: str) -> "LayerName":
        """Return what a name says; raises UnknownNameError for what is not understood."""
        model, _, behind = text.partition("/")
        if model not in known_names("model"):
            raise unknown_name("model", model, known_names("model")).at(text)
        found = _BEHIND_MODEL.fullmatch(behind)
        if found is None:
            hint = did_you_mean(behind, _EXAMPLES)
            raise UnknownNameError(f"{text}: found '{behind}'{hint or ','} allowed: {FORMS}")
        number, tokens = int(found["number"] or 0), int(found["tokens"])
        sequences = int(found["sequences"] or 1)
        return cls(text, model, number, found["phase"], tokens, sequences, found["operation"])

    @property
    def step(self) -> Step:
        """What is computed."""
        if self.phase == "prefill":
            return Step.prefill(self.sequences, self.tokens)
        return Step.decode(self.sequences, self.tokens - 1)


def is_layer_name(text: str) -> bool:
    """Whether a text that is no file speaks of a layer of a model, be it well or badly."""
    model, slash, behind = text.partition("/")
    if not slash or Path(text).suffix in (".yaml", ".yml"):
        return False
    return model in known_names("model") or _BEHIND_MODEL.fullmatch(behind) is not None


@lru_cache(256)
def named_problem(text: str) -> Problem | LayerProblem:
    """Return the layer or the operation of a name.

    Raises UnknownNameError for a name that is not understood, WorkloadError for a layer that the
    model does not have.
    """
    asked = LayerName.parse(text)
    layer = _layer(asked)
    if asked.operation is None:
        return layer.model_copy(update={"name": text})
    known = {_spelled(part.problem): part.problem for part in layer.problems}
    if asked.operation not in known:
        hint = did_you_mean(asked.operation, known)
        names = ", ".join(known)
        raise UnknownNameError(
            f"{text}: unknown operation '{asked.operation}'{hint}; known: {names}"
        )
    return known[asked.operation].model_copy(update={"name": text})


def renamed(text: str) -> str | None:
    """Return the name of what a name of the former kind, `llama-3-8b-prefill-4096-qkv`, asked for.

    None for a text of another form.
    """
    found = _OLD.fullmatch(text)
    if found is None or found["model"] not in known_names("model"):
        return None
    whole = f"{found['model']}/{found['phase']}-{found['tokens']}"
    fitting = [each for each in _operations(whole) if each.startswith(found["rest"] or "/")]
    return f"{whole}/{fitting[0]}" if len(fitting) == 1 else whole


def _operations(whole: str) -> Iterator[str]:
    try:
        layer = _layer(LayerName.parse(whole))
    except AccelsimError:
        return
    yield from (_spelled(part.problem) for part in layer.problems)


def _layer(asked: LayerName) -> LayerProblem:
    try:
        architecture = load_architecture(locate(asked.model, "model"))
        return layer_of(architecture, asked.step, asked.number)
    except AccelsimError as error:
        raise error.at(asked.text) from None


def _spelled(problem: Problem) -> str:
    return problem.name.replace(" ", "-")
