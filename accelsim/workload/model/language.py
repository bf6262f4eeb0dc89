"""A language model in memory, and the text that it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from accelsim.errors import FILE_ERRORS, ShortageError, WorkloadError, is_refusal
from accelsim.workload.model.checkpoint import TOKENIZER, read_checkpoint
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.gguf_model import read_gguf_weights
from accelsim.workload.model.llama import LlamaWeights
from accelsim.workload.model.place import ModelPlace, find_model
from accelsim.workload.model.tokenizer import Tokenizer, gguf_tokenizer, json_tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A model that can read text."""

    name: str
    """Name of a release; of other models one that says what the files hold, not where they lie."""
    weights: LlamaWeights
    tokenizer: Tokenizer

    def token_ids(self, text: str, count: int) -> list[int]:
        """Return the first `count` tokens; raise WorkloadError if the text has fewer."""
        ids = self.tokenizer.encode(text)
        if len(ids) < count:
            raise WorkloadError(f"the text has {len(ids)} tokens, {count} are needed")
        return ids[:count]

    def opened(self, ids: Sequence[int]) -> list[int]:
        """Return as many ids, beginning as the model was trained to see every text begin.

        Some families open a text with a token of its own; where they do, the last id is left out.
        """
        return self.tokenizer.opened(ids)


def load_model(model: str, folder: Path = Path()) -> LanguageModel:
    """Return a fetched model by its name, or one by its path, its weights as float32.

    A path is that of a GGUF file or of a folder with config.json, relative to `folder` or to the
    working directory. Raises UnknownNameError for neither, ShortageError for a copy of a release
    that is damaged, WorkloadError for a model that is damaged or not understood. The last model
    stays in memory, so that the points of a sweep read its file once.
    """
    place = find_model(model, folder)
    try:
        return _read_model(place, place.stamp())
    except WorkloadError as error:  # a release is one file for ever: only this copy can be wrong
        if not place.is_release:
            raise
        raise ShortageError(str(error)) from error


@lru_cache(maxsize=1)
def _read_model(place: ModelPlace, _stamp: tuple[int, ...]) -> LanguageModel:
    path = place.path
    if path.is_dir():
        weights, tokenizer = read_checkpoint(path), json_tokenizer(path / TOKENIZER)
    else:
        file = GgufFile(path)
        weights, tokenizer = read_gguf_weights(file), gguf_tokenizer(file)
    return LanguageModel(place.name, weights, tokenizer)


def read_text(path: Path | None) -> str:
    """Return the text of a UTF-8 file, or the default text.

    Raises WorkloadError if it is no text, ShortageError if it cannot be read.
    """
    if path is None:
        return default_text()
    try:
        return path.read_text(encoding="utf-8")
    except FILE_ERRORS as error:
        kind = ShortageError if is_refusal(error) else WorkloadError
        raise kind(f"{path}: cannot be read as UTF-8 text ({error})") from error


def default_text() -> str:
    """Return the language reference that comes with every Python, its topics in sorted order."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))
