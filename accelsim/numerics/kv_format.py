"""How keys and values are kept for later tokens: a format of elements, and scales that they share.

Sources: Liu et al., "KIVI", arXiv 2402.02750, sections 3.2 and 3.3 (groups of tokens in a channel
of K, groups of channels in a token of V, a step and a smallest value each in FP16, the latest
tokens as they are); vLLM's `kv_cache_dtype` (FP8 with a scale of a tensor or of a head). A base for
each row and powers of two below it are no published cache format: see decision 0078.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

from accelsim.errors import WorkloadError, did_you_mean
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE

_PLAIN = (Format.FP32, Format.BF16, Format.FP16)
_FP8 = (Format.FP8_E4M3, Format.FP8_E5M2)
_CODES = (Format.INT8, Format.INT4)
ELEMENTS = (*_PLAIN, *_FP8, *_CODES)
"""Formats of elements."""
_SCALES = {
    **dict.fromkeys(_PLAIN, ("one",)),
    **dict.fromkeys(_FP8, ("one", "tensor", "head")),
    **dict.fromkeys(_CODES, ("group", "power_of_two")),
}
"""Scales that an element may have, its default first."""
GROUP, RESIDUAL = 32, 128
"""Defaults of KIVI (section 4.1)."""
SCALE_BITS = 16
"""Bits of a step, of a smallest value and of a base: FP16."""
LARGEST_SHIFT = 15
"""Of a group below the base of its row: 2^-15, which is stored in E8M0."""


@dataclass(frozen=True, slots=True)
class KvFormat:
    """A format of keys and values in a cache, written `int4(group=32, residual=128)`.

    `scales` says what an element is multiplied by. `one`: nothing. `tensor`, `head`: FP32, its
    largest magnitude over the largest number of the format. `group`: an FP16 step, to which an FP16
    smallest value is added; keys share them in `group` tokens of a channel, values in `group`
    channels of a token. `power_of_two`: a base in FP16 for each token of a head, over a power of
    two that such a group shares.
    """

    element: Format
    scales: str = "one"
    group: int = 0
    """Elements that share a scale; 0: not a number of elements."""
    residual: int = 0
    """Latest tokens that are kept as they came: values of so many, keys until there are so many."""

    @classmethod
    def parse(cls, text: str) -> "KvFormat":
        """Return the format that is written so; raises WorkloadError."""
        return _parsed(text)

    @classmethod
    def of(cls, text: "KvFormat | str") -> "KvFormat":
        """Return a format as it is, or the one that a text stands for."""
        return text if isinstance(text, KvFormat) else cls.parse(text)

    @property
    def is_coded(self) -> bool:
        """Whether elements are codes, which no product takes as they are."""
        return self.element in _CODES

    @property
    def has_scales(self) -> bool:
        """Whether elements are multiplied by anything."""
        return self.scales != "one"

    def row_bits(self, heads: int, width: int) -> float:
        """Return the bits of a token in `heads` heads of `width` elements, with what it shares.

        Scales of tensors and heads are a few numbers for all tokens, and not among them.
        """
        bits = float(self.element.bits * width)
        if self.scales == "group":
            bits += 2 * SCALE_BITS * width / self.group
        if self.scales == "power_of_two":
            bits += SCALE_BITS + Format.E8M0.bits * width / self.group
        return heads * bits

    def token_bytes(self, heads: int, width: int) -> int:
        """Return `row_bits` in whole bytes."""
        return ceil(self.row_bits(heads, width) / BITS_PER_BYTE)

    def plain_keys(self, tokens: Any) -> Any:
        """Return of how many of the latest tokens keys are kept as they came, of so many tokens."""
        return tokens % self.residual if self.residual else 0 * tokens

    def plain_values(self, tokens: int) -> int:
        """Return the same for values."""
        return min(tokens, self.residual)

    def __str__(self) -> str:
        given = ", ".join(f"{key}={value}" for key, value in self._given())
        return f"{self.element}({given})" if given else str(self.element)

    def _given(self) -> Iterator[tuple[str, Any]]:
        """Yield the options that differ from their defaults."""
        default = _of_options(str(self.element), {})
        for key in ("scales", "group", "residual"):
            if getattr(self, key) != getattr(default, key):
                yield key, getattr(self, key)


@lru_cache(256)
def _parsed(text: str) -> KvFormat:
    name, bracket, rest = (part.strip() for part in text.partition("("))
    if bracket and not rest.endswith(")"):
        raise WorkloadError(f"kv: found '{text}', allowed: a closing bracket at the end")
    options: dict[str, str] = {}
    for part in filter(None, map(str.strip, rest.removesuffix(")").split(","))):
        key, equals, value = (each.strip() for each in part.partition("="))
        if not equals or not value:
            raise WorkloadError(f"kv: found '{part}' in '{text}', allowed: option=value")
        if key in options:
            raise WorkloadError(f"kv: found '{key}' twice in '{text}', allowed: once")
        options[key] = value
    return _of_options(name, options)


def _of_options(name: str, options: dict[str, str]) -> KvFormat:
    element = Format(_one_of("", name, ELEMENTS))
    allowed = _SCALES[element]
    scales = _one_of(f"{element}: scales", options.get("scales", allowed[0]), allowed)
    known = {"group": GROUP, "residual": RESIDUAL} if element in _CODES else {}
    names = (*(("scales",) if len(allowed) > 1 else ()), *known)
    for key in options:
        if key not in names:
            hint = did_you_mean(key, names)
            listed = f"allowed: {', '.join(names)}" if names else "it has none"
            kind = f" with scales={scales}" if len(allowed) > 1 else ""
            raise WorkloadError(f"kv: {element}{kind}: found option '{key}'{hint or ','} {listed}")
    sizes = {key: _size(element, key, options.get(key, default)) for key, default in known.items()}
    if sizes and sizes["residual"] % sizes["group"]:
        raise WorkloadError(
            f"kv: {element}: residual: found {sizes['residual']}, allowed: a multiple of "
            f"group = {sizes['group']}, since keys become codes a group of tokens at a time"
        )
    return KvFormat(element, scales, **sizes)


def _one_of(place: str, found: str, allowed: tuple[str, ...]) -> str:
    if found in allowed:
        return found
    hint = did_you_mean(found, allowed)
    where = f"kv: {place}" if place else "kv"
    raise WorkloadError(f"{where}: found '{found}'{hint or ','} allowed: {', '.join(allowed)}")


def _size(element: Format, key: str, found: object) -> int:
    text = str(found)
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise WorkloadError(f"kv: {element}: {key}: found '{text}', allowed: 1 to 1048576")
    return int(text)
