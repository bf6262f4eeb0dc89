"""Text to token ids, as the model's own tokenizer would: from GGUF metadata or a tokenizer.json.

The `tokenizers` package does the work. Of GGUF files two kinds are understood: byte-level BPE,
whose rule of splitting a text is named by `tokenizer.ggml.pre`, and SentencePiece's BPE with
scores. Rules: llama.cpp, src/llama-vocab.cpp, which has them from the tokenizer.json of each model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsim.errors import FILE_ERRORS, WorkloadError
from accelsim.workload.extras import import_extra
from accelsim.workload.model.gguf_file import GgufFile

_SPACE = "\u2581"
"""SentencePiece's sign for a space."""
_UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 2, 3, 4, 6
"""Values of `tokenizer.ggml.token_type`."""
_WORDS_AND_DIGITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Splits words from the most digits that a token may have."""


class Tokenizer:
    """Turns texts into ids, and opens a text as the model was trained to see it."""

    def __init__(self, library: Any, opening: Sequence[int]) -> None:
        """Take a tokenizer of the `tokenizers` package, and the tokens that open every text."""
        self._library = library
        self._opening = tuple(opening)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`; adds no special tokens and reads none."""
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids."""
        text: str = self._library.decode(list(ids), skip_special_tokens=False)
        return text

    @property
    def opening_tokens(self) -> int:
        """How many tokens open every text."""
        return len(self._opening)

    def opened(self, ids: Sequence[int]) -> list[int]:
        """Return as many ids, with the tokens that open every text before them."""
        return [*self._opening, *ids][: len(ids)]


def gguf_tokenizer(file: GgufFile) -> Tokenizer:
    """Return the tokenizer of a GGUF file.

    Raises WorkloadError for a kind or a splitting rule that is not understood, or a damaged
    vocabulary.
    """
    kind = file.value("tokenizer.ggml.model", str)
    if kind not in _KINDS:
        raise WorkloadError(
            f"{file.path}: metadata 'tokenizer.ggml.model' is '{kind}', "
            f"allowed: {', '.join(_KINDS)}"
        )
    make, opens = _KINDS[kind]
    library = make(file)
    if file.optional("tokenizer.ggml.add_bos_token", bool, opens(file)):
        return Tokenizer(library, [_opening_token(file)])
    return Tokenizer(library, [])


def json_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json; raise WorkloadError if there is none."""
    tokenizers = import_extra("tokenizers", "a language model")
    try:
        library = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FILE_ERRORS as error:
        raise WorkloadError(f"{path}: cannot be read ({error})") from error
    except Exception as error:  # the package raises no narrower one
        raise WorkloadError(f"{path}: not a tokenizer: {error}") from error
    library.no_truncation()
    library.no_padding()
    library.encode_special_tokens = True
    plain = library.encode("a", add_special_tokens=False).ids
    whole = library.encode("a").ids
    if whole[len(whole) - len(plain) :] != plain:
        raise WorkloadError(f"{path}: closes every text with a token, allowed: opening it")
    return Tokenizer(library, whole[: len(whole) - len(plain)])


def _opening_token(file: GgufFile) -> int:
    token: int = file.value("tokenizer.ggml.bos_token_id", int)
    if not 0 <= token < len(file.value("tokenizer.ggml.tokens", list)):
        raise WorkloadError(
            f"{file.path}: metadata 'tokenizer.ggml.bos_token_id' is {token}, "
            "allowed: the number of a token"
        )
    return token


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a text is split before its parts are encoded, each alone."""

    pattern: str | None = None
    """Regular expression of the parts; None is the one of GPT-2."""
    single_digits: bool = False
    """Digits are split off one by one before that."""
    composes: bool = False
    """Characters are composed (NFC) before that."""
    whole_first: bool = False
    """A part that is a token is not put together by merges."""
    opens: bool = False
    """Texts begin with a token unless the file says otherwise."""


_LLAMA3 = _Rule(pattern=_WORDS_AND_DIGITS % 3, whole_first=True, opens=True)
_RULES = {
    "gpt-2": _Rule(),
    "smollm": _Rule(single_digits=True),
    "qwen2": _Rule(pattern=_WORDS_AND_DIGITS.replace("{1,%d}", ""), composes=True),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}
"""`tokenizer.ggml.pre` -> rule."""


def _rule(file: GgufFile) -> _Rule:
    name = file.value("tokenizer.ggml.pre", str)
    if name not in _RULES:
        raise WorkloadError(
            f"{file.path}: metadata 'tokenizer.ggml.pre' is '{name}', allowed: {', '.join(_RULES)}"
        )
    return _RULES[name]


def _byte_level(file: GgufFile) -> Any:
    tokenizers = import_extra("tokenizers", "a language model")
    parts, rule = tokenizers.pre_tokenizers, _rule(file)
    vocabulary = _vocabulary(file)
    merges = _listed_merges(file)
    bpe = tokenizers.models.BPE(vocabulary, merges, ignore_merges=rule.whole_first)
    library = tokenizers.Tokenizer(bpe)
    if rule.composes:
        library.normalizer = tokenizers.normalizers.NFC()
    steps = [parts.Digits(individual_digits=True)] if rule.single_digits else []
    if rule.pattern is not None:
        steps.append(parts.Split(tokenizers.Regex(rule.pattern), "isolated"))
    steps.append(parts.ByteLevel(add_prefix_space=False, use_regex=rule.pattern is None))
    library.pre_tokenizer = parts.Sequence(steps)
    return _with_own_tokens(library, file)


def _sentence_pieces(file: GgufFile) -> Any:
    tokenizers = import_extra("tokenizers", "a language model")
    normalizers = tokenizers.normalizers
    if file.optional("tokenizer.ggml.remove_extra_whitespaces", bool, False):
        raise WorkloadError(
            f"{file.path}: metadata 'tokenizer.ggml.remove_extra_whitespaces' is true, "
            "allowed: false"
        )
    vocabulary = _vocabulary(file)
    bpe = tokenizers.models.BPE(vocabulary, _scored_merges(file, vocabulary), byte_fallback=True)
    library = tokenizers.Tokenizer(bpe)
    begins = file.optional("tokenizer.ggml.add_space_prefix", bool, True)
    steps = [normalizers.Prepend(_SPACE)] if begins else []
    library.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])
    return _with_own_tokens(library, file)


def _with_own_tokens(library: Any, file: GgufFile) -> Any:
    """Add the tokens that are found in a text before it is split; control tokens are not."""
    added = import_extra("tokenizers", "a language model").AddedToken
    tokens = file.value("tokenizer.ggml.tokens", list)
    kinds = file.optional("tokenizer.ggml.token_type", list, [])
    own = [
        added(token, normalized=False)
        for token, kind in zip(tokens, kinds, strict=False)
        if kind == _USER_DEFINED
    ]
    library.add_tokens(own)
    return library


_KINDS: dict[str, tuple[Callable[[GgufFile], Any], Callable[[GgufFile], bool]]] = {
    "gpt2": (_byte_level, lambda file: _rule(file).opens),
    "llama": (_sentence_pieces, lambda _file: True),
}
"""`tokenizer.ggml.model` -> its tokenizer, and whether texts are opened by default."""


def _vocabulary(file: GgufFile) -> dict[str, int]:
    tokens = file.value("tokenizer.ggml.tokens", list)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens) or not all(isinstance(token, str) for token in tokens):
        raise WorkloadError(f"{file.path}: the vocabulary is not a list of different texts")
    return vocabulary


def _listed_merges(file: GgufFile) -> list[tuple[str, str]]:
    tokens = set(file.value("tokenizer.ggml.tokens", list))
    merges = []
    for merge in file.value("tokenizer.ggml.merges", list):
        left, _, right = str(merge).partition(" ")
        if not {left, right, left + right} <= tokens:
            raise WorkloadError(f"{file.path}: merge '{merge}' is not made of tokens")
        merges.append((left, right))
    return merges


def _scored_merges(file: GgufFile, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return the merges of a SentencePiece vocabulary: what has the best score is joined first."""
    scores = file.value("tokenizer.ggml.scores", list)
    kinds = file.value("tokenizer.ggml.token_type", list)
    if not len(scores) == len(kinds) == len(vocabulary):
        raise WorkloadError(
            f"{file.path}: {len(vocabulary)} tokens have {len(scores)} scores and "
            f"{len(kinds)} types, allowed: as many of each"
        )
    missing = [byte for byte in range(256) if f"<0x{byte:02X}>" not in vocabulary]
    if missing:
        raise WorkloadError(f"{file.path}: the vocabulary has no token <0x{missing[0]:02X}>")
    merges = [
        (-scores[index], index, token[:cut], token[cut:])
        for token, index in vocabulary.items()
        if kinds[index] not in (_UNKNOWN, _CONTROL, _BYTE)
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    ]
    return [(left, right) for _, _, left, right in sorted(merges)]
