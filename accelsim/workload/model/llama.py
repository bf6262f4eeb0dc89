"""The weights of a decoder of the Llama family, whatever file they come from.

Llama's layer (arXiv 2302.13971) with what its relatives add to it: biases of linears (Qwen2), norms
of queries and keys (Qwen3, Gemma 3), norms after attention and FFN (Gemma 3, arXiv 2503.19786).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import WorkloadError
from accelsim.workload.model.families import Family
from accelsim.workload.model.rope import Frequencies

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Shapes and constants of a model."""

    layers: int
    hidden: int
    q_heads: int
    kv_heads: int
    head_dim: int
    """Elements of one query, key or value row; an even number."""
    ffn: int
    vocabulary: int
    context: int
    """Most tokens that are read at once: those the model was trained to see."""
    norm_epsilon: float
    family: Family

    @property
    def q_width(self) -> int:
        """Elements of all queries of one token."""
        return self.q_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of all keys of one token."""
        return self.kv_heads * self.head_dim

    @property
    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes [out, in] of the linears of a layer."""
        return {
            "q": (self.q_width, self.hidden),
            "k": (self.kv_width, self.hidden),
            "v": (self.kv_width, self.hidden),
            "o": (self.hidden, self.q_width),
            "gate": (self.ffn, self.hidden),
            "up": (self.ffn, self.hidden),
            "down": (self.hidden, self.ffn),
        }

    def mistake(self) -> str | None:
        """Return what contradicts itself, or None."""
        if self.q_heads % self.kv_heads:
            return f"{self.q_heads} query heads cannot share {self.kv_heads} KV heads evenly"
        if self.head_dim % 2:
            return f"a head of {self.head_dim} elements has no halves to rotate"
        return None


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Weights of one decoder layer."""

    attention_norm: Array
    """[hidden]"""
    ffn_norm: Array
    """[hidden]"""
    linears: dict[str, Array]
    """Name -> [out, in], shapes as in LlamaConfig.linear_shapes."""
    frequencies: Frequencies
    """Radians by which each pair of elements turns from one position to the next."""
    biases: dict[str, Array] = field(default_factory=dict)
    """Name -> [out], of the linears that have one."""
    norms: dict[str, Array] = field(default_factory=dict)
    """`q` and `k` [head_dim], of every head; `post_attention` and `post_ffn` [hidden]; or none."""
    window: int | None = None
    """Latest tokens that a token sees, its own among them; None: all of them."""


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """Weights of a whole model."""

    config: LlamaConfig
    embedding: Array
    """[vocabulary, hidden]"""
    layers: tuple[LayerWeights, ...]
    final_norm: Array
    """[hidden]"""
    head: Array
    """Output projection [vocabulary, hidden]; the embedding itself where they are tied."""


class Positions(NamedTuple):
    """What a layer knows of where tokens are."""

    frequencies: Frequencies
    window: int | None
    """See `LayerWeights`."""


class Tensors(Protocol):
    """The tensors of a file or of several."""

    def names(self) -> set[str]:
        """Return the names of all tensors."""
        ...

    def read(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a tensor; raise WorkloadError unless it is there with this shape, all finite."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one kind of file names and stores the tensors of a model."""

    embedding: str
    head: str
    final_norm: str
    layer: str
    """Prefix of a layer's tensors, with its number to fill in."""
    parts: dict[str, str]
    """Linear or norm -> its name in a layer."""
    turns_neighbours: bool = False
    """Rows of Q and K are ordered so that neighbors rotate together, not halves."""
    norm_offset: float = 0.0
    """What is to be added to the scale of a norm."""


def read_weights(
    tensors: Tensors,
    layout: Layout,
    config: LlamaConfig,
    positions: Sequence[Positions],
    *,
    tied: bool,
) -> LlamaWeights:
    """Return the weights as float32; `positions` are of each layer.

    Raises WorkloadError for a tensor that is missing or has another shape.
    """
    embedding = tensors.read(layout.embedding, (config.vocabulary, config.hidden))
    layers = tuple(
        _Layer(tensors, layout, config, layout.layer.format(index)).read(own)
        for index, own in enumerate(positions)
    )
    final_norm = tensors.read(layout.final_norm, (config.hidden,)) + np.float32(layout.norm_offset)
    head = embedding if tied else tensors.read(layout.head, embedding.shape)
    return LlamaWeights(config, embedding, layers, final_norm, head)


def known_names(layout: Layout, config: LlamaConfig) -> set[str]:
    """Return the names of all tensors that such a model may have."""
    own = {part for part in layout.parts if part in config.linear_shapes}
    own |= set(_norm_shapes(config))
    return {layout.embedding, layout.head, layout.final_norm} | {
        f"{layout.layer.format(index)}{layout.parts[part]}.{kind}"
        for index in range(config.layers)
        for part in own
        for kind in (("weight", "bias") if part in config.linear_shapes else ("weight",))
    }


def unpermute_rope(rows: Array, heads: int) -> Array:
    """Undo llama.cpp's order of Q and K rows, which rotates neighbors instead of halves.

    rows: [heads x head_dim, ...]. Within a head, row 2 i + h of the file is row
    h x head_dim / 2 + i of the model.
    """
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


def _norm_shapes(config: LlamaConfig) -> dict[str, tuple[int]]:
    """Return the shapes of the norms of a layer, by their names in a layout."""
    hidden, head = (config.hidden,), (config.head_dim,)
    shapes = {"attention_norm": hidden, "ffn_norm": hidden}
    if config.family.head_norms:
        shapes |= {"q_norm": head, "k_norm": head}
    if config.family.post_norms:
        shapes |= {"post_attention_norm": hidden, "post_ffn_norm": hidden}
    return shapes


@dataclass(frozen=True, slots=True)
class _Layer:
    """The tensors of one layer."""

    tensors: Tensors
    layout: Layout
    config: LlamaConfig
    prefix: str

    def read(self, positions: Positions) -> LayerWeights:
        norms = {
            name.removesuffix("_norm"): self._norm(name, shape)
            for name, shape in _norm_shapes(self.config).items()
        }
        shapes = self.config.linear_shapes
        linears = {name: self._linear(name, "weight", shapes[name]) for name in shapes}
        present = self.tensors.names()
        biases = {
            name: self._linear(name, "bias", shapes[name][:1])
            for name in shapes
            if name in self.config.family.biases or self._name(name, "bias") in present
        }
        attention_norm, ffn_norm = norms.pop("attention"), norms.pop("ffn")
        frequencies, window = positions
        return LayerWeights(attention_norm, ffn_norm, linears, frequencies, biases, norms, window)

    def _name(self, part: str, kind: str) -> str:
        return f"{self.prefix}{self.layout.parts[part]}.{kind}"

    def _norm(self, part: str, shape: tuple[int]) -> Array:
        return self.tensors.read(self._name(part, "weight"), shape) + np.float32(
            self.layout.norm_offset
        )

    def _linear(self, part: str, kind: str, shape: tuple[int, ...]) -> Array:
        values = self.tensors.read(self._name(part, kind), shape)
        heads = {"q": self.config.q_heads, "k": self.config.kv_heads}.get(part)
        if heads is None or not self.layout.turns_neighbours:
            return values
        return unpermute_rope(values, heads)


def refuse_others(place: object, what: str, found: set[str], known: set[str]) -> None:
    """Raise WorkloadError for what a file says and nobody here understands."""
    others = sorted(found - known)
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise WorkloadError(
            f"{place}: {what} '{others[0]}'{more} is not understood; allowed: models of "
            "Llama's family without it"
        )
