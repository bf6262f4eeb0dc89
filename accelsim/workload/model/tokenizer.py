"""Text to token ids: byte-level BPE with single digits, as SmolLM2 was trained."""

from typing import Any

from accelsim.errors import WorkloadError
from accelsim.workload.extras import import_extra
from accelsim.workload.model.gguf_file import GgufFile

_SUPPORTED = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}


class Tokenizer:
    """Encodes text with the vocabulary and merges of a GGUF file; adds no special tokens."""

    def __init__(self, file: GgufFile) -> None:
        """Raises WorkloadError for another kind of tokenizer or a damaged vocabulary."""
        for key, supported in _SUPPORTED.items():
            if (found := file.value(key, str)) != supported:
                raise WorkloadError(
                    f"{file.path}: metadata '{key}' is '{found}', allowed: {supported}"
                )
        self._bpe = _byte_level_bpe(_vocabulary(file), _merges(file))

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`."""
        ids: list[int] = self._bpe.encode(text).ids
        return ids


def _byte_level_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    tokenizers = import_extra("tokenizers", "a language model")
    parts = tokenizers.pre_tokenizers
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    bpe.pre_tokenizer = parts.Sequence(
        [parts.Digits(individual_digits=True), parts.ByteLevel(add_prefix_space=False)]
    )
    return bpe


def _vocabulary(file: GgufFile) -> dict[str, int]:
    tokens = file.value("tokenizer.ggml.tokens", list)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens) or not all(isinstance(token, str) for token in tokens):
        raise WorkloadError(f"{file.path}: the vocabulary is not a list of different texts")
    return vocabulary


def _merges(file: GgufFile) -> list[tuple[str, str]]:
    tokens = set(file.value("tokenizer.ggml.tokens", list))
    merges = []
    for merge in file.value("tokenizer.ggml.merges", list):
        left, _, right = str(merge).partition(" ")
        if not {left, right, left + right} <= tokens:
            raise WorkloadError(f"{file.path}: merge '{merge}' is not made of tokens")
        merges.append((left, right))
    return merges
