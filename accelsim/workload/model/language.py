"""A fetched language model in memory, and the text that it reads."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from accelsim.errors import FILE_ERRORS, ShortageError, WorkloadError, is_refusal
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.llama import LlamaWeights, read_llama
from accelsim.workload.model.release import model_path
from accelsim.workload.model.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """A model that can read text."""

    name: str
    weights: LlamaWeights
    tokenizer: Tokenizer

    def token_ids(self, text: str, count: int) -> list[int]:
        """Return the first `count` tokens; raise WorkloadError if the text has fewer."""
        ids = self.tokenizer.encode(text)
        if len(ids) < count:
            raise WorkloadError(f"the text has {len(ids)} tokens, {count} are needed")
        return ids[:count]


def load_model(name: str) -> LanguageModel:
    """Return a fetched model, its weights as float32. Raises ShortageError if damaged.

    The last model stays in memory, so that the points of a sweep read its file once.
    """
    path = model_path(name)
    status = path.stat()
    try:
        return _read_model(name, path, status.st_mtime_ns, status.st_size)
    except WorkloadError as error:  # a release is one file for ever: only this copy can be wrong
        raise ShortageError(str(error)) from error


@lru_cache(maxsize=1)
def _read_model(name: str, path: Path, _modified_ns: int, _size_bytes: int) -> LanguageModel:
    file = GgufFile(path)
    return LanguageModel(name, read_llama(file), Tokenizer(file))


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
