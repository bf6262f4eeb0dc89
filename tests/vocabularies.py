"""Small vocabularies of both kinds of tokenizer, and texts on which their rules differ.

`record_models.py` asks llama.cpp for the ids; what it said is in recorded_models.json.
"""

from tests.tiny_model import TinyModel, byte_alphabet

TEXTS = (
    "hello hello, I'm 1234567 wide",
    "don't DON'T we'll  two  spaces and\ttabs",
    "x = 3.14 # caf\u00e9 \u20ac\n\n\n    return x!\n\n",
    "end of line \r\n  begins (a)[b]{c} ...!!! \n",
    "\u4e2d\u6587 \U0001f600 na\u00efve",
    "  starts and ends with spaces  ",
)
RULES = ("gpt-2", "smollm", "qwen2", "llama-bpe")

_BYTE_MERGES = [
    *("1 2", "3 4", "12 3", "123 4", "5 6", "56 7"),
    *("\u0120 \u0120", "\u010a \u010a", "\u0120 w", "\u0120 h", "\u0120 1", "\u0109 t"),
    *("h e", "l l", "he ll", "hell o", "\u0120 hello", "' m", "' t", "' T", "n 't", "' l"),
    *("! \u010a", ". .", "! !", "!! !", "\u0120 .", "\u0120 (", "( a", ") [", "\u00c3 \u00a9"),
    *("\u0120 =", "\u010a \u0120", "\u010d \u010a", "\u0120 \u010d", "o \u010a"),
]
BYTE_TOKENS = byte_alphabet() + [merge.replace(" ", "") for merge in _BYTE_MERGES] + ["wide"]
"""`wide` is made by no merge: only a rule that looks for whole words finds it."""

_PIECES = (
    *("\u2581", *"abcdefghijklmnopqrstuvwxyzDNOT0123456789.,'=#!\n\t()[]{}", "\u00e9", "\u4e2d"),
    *("he", "ll", "hell", "hello", "lo", "\u2581hello", "\u2581h", "el", "\u2581\u2581", "12"),
    *("\u2581w", "id", "ide", "wi", "wide", "\u2581two", "tw", "two", "o\u2581", "34", "123"),
    *("\u2581\u2581\u2581\u2581", "!\n", "..", "...", "an", "and", "\u2581and", "\u2581an"),
)
SENTENCE_TOKENS = (
    ["<unk>", "<s>", "</s>", "\n\n"] + [f"<0x{byte:02X}>" for byte in range(256)] + list(_PIECES)
)
_KINDS = [2, 3, 3, 4] + [6] * 256 + [1] * len(_PIECES)
_SCORES = [0.0] * 260 + [-float((7 * index) % 61) - index / 1000 for index in range(len(_PIECES))]


def byte_level(tiny: TinyModel, rule: str) -> TinyModel:
    """Give a model a byte-level vocabulary that is split by a rule."""
    return _with(
        tiny,
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": rule,
            "tokenizer.ggml.tokens": BYTE_TOKENS,
            "tokenizer.ggml.token_type": [1] * len(BYTE_TOKENS),
            "tokenizer.ggml.merges": _BYTE_MERGES,
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 1,
        },
    )


def sentence_pieces(tiny: TinyModel, *, prefix: bool) -> TinyModel:
    """Give a model a SentencePiece vocabulary, with or without a space before every text."""
    return _with(
        tiny,
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": SENTENCE_TOKENS,
            "tokenizer.ggml.token_type": _KINDS,
            "tokenizer.ggml.scores": _SCORES,
            "tokenizer.ggml.add_space_prefix": prefix,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
        },
    )


def _with(tiny: TinyModel, metadata) -> TinyModel:
    for key in [key for key in tiny.metadata if key.startswith("tokenizer.")]:
        del tiny.metadata[key]
    tiny.metadata |= metadata
    rows = len(metadata["tokenizer.ggml.tokens"])
    embedding = tiny.tensors["token_embd.weight"]
    tiny.tensors["token_embd.weight"] = embedding[[row % len(embedding) for row in range(rows)]]
    return tiny
