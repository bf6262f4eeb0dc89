"""Attention of a layer: its matrices, and what it keeps of a token.

Sources: Ainslie et al., "GQA", 2023 (grouped heads); DeepSeek-V2, 2024, section 2.1 (latent
attention); DeepSeek-V3.2, 2025, section 2.1 (indexer).
"""

from dataclasses import dataclass
from enum import StrEnum

from accelsim.models.matrix import Matrix


class HeadNorm(StrEnum):
    """How Q and K are normalised before their product."""

    NONE = "none"
    PLAIN = "plain"
    """Each head alone, by nothing that is learned."""
    HEAD = "head"
    """Each head alone, by one learned vector for all heads."""
    ROW = "row"
    """All heads of a token together, by a learned vector."""


@dataclass(frozen=True, slots=True)
class GroupedAttention:
    """Query heads in groups that share a head of K and V."""

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    rotary_dim: int
    """Dimensions of a head that are rotated by position; 0: none."""
    window: int | None = None
    """Keys that a query sees at most, its own included; None: all before it."""
    chunk: int | None = None
    """Tokens of a chunk, within which a query sees the keys before it; None: no chunks."""
    has_sinks: bool = False
    """Whether each head has a learned logit that takes part in its softmax."""
    softcap: float | None = None
    """Bound of a score, which is softcap * tanh(score / softcap); None: no bound."""
    head_norm: HeadNorm = HeadNorm.NONE
    has_qkv_bias: bool = False
    has_output_bias: bool = False

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return its linear maps in a model with rows of `hidden` elements."""
        bias = self.has_qkv_bias
        outputs = self.heads * self.value_dim
        return (
            Matrix("self_attn.q_proj", hidden, self.heads * self.head_dim, bias),
            Matrix("self_attn.k_proj", hidden, self.kv_heads * self.head_dim, bias),
            Matrix("self_attn.v_proj", hidden, self.kv_heads * self.value_dim, bias),
            Matrix("self_attn.o_proj", outputs, hidden, self.has_output_bias),
        )

    @property
    def vector_parameters(self) -> int:
        """Learned numbers outside of its matrices: norms of heads, and sinks."""
        heads = {HeadNorm.HEAD: 2, HeadNorm.ROW: self.heads + self.kv_heads}
        return heads.get(self.head_norm, 0) * self.head_dim + self.has_sinks * self.heads

    @property
    def kept_rows(self) -> tuple[tuple[int, int], ...]:
        """Heads and their elements that a token leaves for those after it: of K, and of V."""
        return (self.kv_heads, self.head_dim), (self.kv_heads, self.value_dim)

    @property
    def reach(self) -> int | None:
        """Tokens whose K and V are kept at most; None: all."""
        return self.window or self.chunk


@dataclass(frozen=True, slots=True)
class Indexer:
    """Heads that score all keys with one key head, so that the attention reads only the best."""

    heads: int
    head_dim: int
    kept: int
    """Keys that a query reads at most."""

    def matrices(self, hidden: int, query_rank: int) -> tuple[Matrix, ...]:
        """Return its linear maps: Q from the query latent, K and a weight a head from the row."""
        return (
            Matrix("self_attn.indexer.wq_b", query_rank, self.heads * self.head_dim),
            Matrix("self_attn.indexer.wk", hidden, self.head_dim),
            Matrix("self_attn.indexer.weights_proj", hidden, self.heads),
        )

    @property
    def vector_parameters(self) -> int:
        """Weights and biases of the LayerNorm of its key."""
        return 2 * self.head_dim


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Heads whose K and V are made from one short latent row a token (MLA)."""

    heads: int
    query_rank: int | None
    """Elements of the query latent; None: Q comes straight from the row."""
    latent_dim: int
    plain_dim: int
    """Dimensions of a head of Q and K that are not rotated."""
    rotary_dim: int
    """Rotated dimensions of a head; the rotated key is one for all heads."""
    value_dim: int
    has_bias: bool = False
    indexer: Indexer | None = None
    reads_selection: bool = False
    """Whether it reads only keys that the indexer of a layer before it chose."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return its linear maps in a model with rows of `hidden` elements."""
        to_heads = self.heads * (self.plain_dim + self.rotary_dim)
        made = self.heads * (self.plain_dim + self.value_dim)
        shared = self.latent_dim + self.rotary_dim
        return (
            *self._query(hidden, to_heads),
            Matrix("self_attn.kv_a_proj_with_mqa", hidden, shared, self.has_bias),
            Matrix("self_attn.kv_b_proj", self.latent_dim, made),
            Matrix("self_attn.o_proj", self.heads * self.value_dim, hidden, self.has_bias),
            *self._indexer(hidden),
        )

    def _query(self, hidden: int, outputs: int) -> tuple[Matrix, ...]:
        if self.query_rank is None:
            return (Matrix("self_attn.q_proj", hidden, outputs),)
        return (
            Matrix("self_attn.q_a_proj", hidden, self.query_rank, self.has_bias),
            Matrix("self_attn.q_b_proj", self.query_rank, outputs),
        )

    def _indexer(self, hidden: int) -> tuple[Matrix, ...]:
        if self.indexer is None:
            return ()
        return self.indexer.matrices(hidden, self.query_rank or hidden)

    @property
    def vector_parameters(self) -> int:
        """Learned numbers outside of its matrices: norms of the latents and of the index key."""
        of_indexer = self.indexer.vector_parameters if self.indexer else 0
        return (self.query_rank or 0) + self.latent_dim + of_indexer

    @property
    def kept_rows(self) -> tuple[tuple[int, int], ...]:
        """What a token leaves for those after it: its latent and its rotated key, in one row."""
        return ((1, self.latent_dim + self.rotary_dim),)

    @property
    def reach(self) -> int | None:
        """None: the latents of all tokens are kept."""
        return None


Attention = GroupedAttention | LatentAttention
