"""A model as its layers: sizes only, no weights."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from accelsim.models.attention import Attention
from accelsim.models.feed_forward import FeedForward
from accelsim.models.matrix import Matrix, total_active_parameters, total_parameters
from accelsim.models.weight_formats import WeightFormats
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import KvFormat
from accelsim.units import BITS_PER_BYTE

BF16 = KvFormat(Format.BF16)


@dataclass(frozen=True, slots=True)
class Norm:
    """The normalisation of rows in a model."""

    has_mean: bool = False
    """Whether the mean is taken off (LayerNorm), or not (RMSNorm)."""
    has_bias: bool = False
    learned: bool = True

    def parameters(self, hidden: int) -> int:
        """Return the learned numbers of one norm of rows of `hidden` elements."""
        return self.learned * (1 + self.has_bias) * hidden


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of a decoder."""

    attention: Attention
    feed_forward: FeedForward
    norms: int = 2
    """Norms of whole rows; four where outputs of both parts are normalised too."""

    def matrices(self, hidden: int) -> tuple[Matrix, ...]:
        """Return the linear maps of both parts."""
        return (*self.attention.matrices(hidden), *self.feed_forward.matrices(hidden))

    @property
    def vector_parameters(self) -> int:
        """Learned numbers outside of matrices and of norms of whole rows."""
        return self.attention.vector_parameters + self.feed_forward.vector_parameters


@dataclass(frozen=True, slots=True)
class Prediction:
    """Layers that guess tokens after the next one, which inference may leave out (MTP).

    DeepSeek-V3 Technical Report, 2024, section 2.2. Embedding and head are those of the model.
    """

    layers: tuple[Layer, ...] = ()

    def parameters(self, hidden: int, norm: Norm) -> int:
        """Return the learned numbers of all modules: a layer, a join of two rows, three norms."""
        return sum(
            total_parameters(layer.matrices(hidden))
            + layer.vector_parameters
            + (layer.norms + 3) * norm.parameters(hidden)
            + 2 * hidden * hidden
            for layer in self.layers
        )


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder: embedding, layers, final norm, head."""

    family: str
    """`model_type` of its config."""
    hidden: int
    """Elements of a row between layers."""
    vocabulary: int
    layers: tuple[Layer, ...]
    norm: Norm
    has_tied_head: bool
    """Whether the head is the embedding, which then is in memory once."""
    has_head_bias: bool = False
    has_final_norm: bool = True
    embedding_dim: int | None = None
    """Elements of a row of the embedding where they are others than `hidden`, else None."""
    learned_positions: int = 0
    """Rows of a table of positions."""
    logit_softcap: float | None = None
    max_tokens: int | None = None
    """Longest context; None: the file does not say."""
    kv_format: KvFormat | None = None
    """Of the keys and values of earlier tokens; None: that of activations."""
    prediction: Prediction = field(default_factory=Prediction)
    weights: WeightFormats = field(default_factory=WeightFormats)
    left_out: tuple[str, ...] = ()
    """Parts of the file that are no part of the decoder, such as a vision tower."""
    file_name: str = field(default="", compare=False)
    """What its file or folder is called; empty: it comes from no file."""

    @property
    def name(self) -> str:
        """What messages and reports call the model."""
        return self.file_name or self.family

    @property
    def parameters(self) -> int:
        """Learned numbers, without layers that predict tokens after the next one."""
        outside = total_parameters(self.outer_matrices()) + self._tables + self._last_norm
        return outside + sum(self.parameters_of(layer) for layer in self.layers)

    @property
    def active_parameters(self) -> int:
        """Learned numbers without the experts that a token does not use."""
        outside = total_parameters(self.outer_matrices()) + self._tables + self._last_norm
        return outside + sum(self.active_parameters_of(layer) for layer in self.layers)

    def parameters_of(self, layer: Layer) -> int:
        """Return the learned numbers of a layer."""
        return total_parameters(layer.matrices(self.hidden)) + self._vectors_of(layer)

    def active_parameters_of(self, layer: Layer) -> int:
        """Return the learned numbers of a layer without the experts that a token does not use."""
        return total_active_parameters(layer.matrices(self.hidden)) + self._vectors_of(layer)

    @property
    def prediction_parameters(self) -> int:
        """Learned numbers of layers that predict tokens after the next one."""
        return self.prediction.parameters(self.hidden, self.norm)

    def kv_bytes_per_token(self, fmt: KvFormat = BF16) -> int:
        """Return the bytes that a token within every window leaves for those after it.

        Keys of an indexer are not among them. Of codes it is what a token takes once it is coded.
        """
        return sum(_kept_bytes(layer.attention, fmt) for layer in self.layers)

    def kv_bytes(self, tokens: int, fmt: KvFormat = BF16) -> int:
        """Return the bytes that so many tokens of a sequence leave; windows bound them.

        Where tokens become codes, the latest ones are in the plain format (`KvFormat.residual`).
        """
        return sum(self._layer_bytes(layer, tokens, fmt) for layer in self.layers)

    def _layer_bytes(self, layer: Layer, tokens: int, fmt: KvFormat) -> int:
        own = min(tokens, layer.attention.reach or tokens)
        if not fmt.is_coded:
            return own * _kept_bytes(layer.attention, fmt)
        plain = KvFormat(self.weights.plain)
        latest = fmt.plain_keys(own), fmt.plain_values(own)
        return sum(
            (own - late) * fmt.token_bytes(*row) + late * plain.token_bytes(*row)
            for row, late in zip(layer.attention.kept_rows, latest, strict=True)
        )

    @property
    def cached_format(self) -> KvFormat:
        """How keys and values of earlier tokens are kept."""
        return self.kv_format or KvFormat(self.weights.plain)

    @property
    def outer_bytes(self) -> int:
        """Bytes of what is no matrix: tables and norms."""
        norms = sum(self._vectors_of(layer) for layer in self.layers) + self._last_norm
        return (self._tables + norms) * self.weights.plain.bits // BITS_PER_BYTE

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables, of which a step reads some rows."""
        return self._tables * self.weights.plain.bits // BITS_PER_BYTE

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the table of tokens, which a tied head shares."""
        elements = self.vocabulary * (self.embedding_dim or self.hidden)
        return elements * self.weights.plain.bits // BITS_PER_BYTE

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters in the formats that the file gives."""
        bits = sum(
            self.weights.bits_of(f"model.layers.{number}.{matrix.module}") * matrix.parameters
            for number, layer in enumerate(self.layers)
            for matrix in layer.matrices(self.hidden)
        )
        bits += sum(
            self.weights.bits_of(matrix.module) * matrix.parameters
            for matrix in self.outer_matrices()
        )
        vectors = sum(self._vectors_of(layer) for layer in self.layers) + self._last_norm
        return math.ceil(
            (bits + self.weights.plain.bits * (self._tables + vectors)) / BITS_PER_BYTE
        )

    def outer_matrices(self) -> Iterator[Matrix]:
        """Yield the linear maps outside of layers; a tied head is none of its own."""
        if self.embedding_dim:
            yield Matrix("model.project_in", self.embedding_dim, self.hidden)
            yield Matrix("model.project_out", self.hidden, self.embedding_dim)
        if not self.has_tied_head:
            yield Matrix(
                "lm_head", self.embedding_dim or self.hidden, self.vocabulary, self.has_head_bias
            )

    @property
    def _tables(self) -> int:
        """Numbers of the embedding and of learned positions."""
        embedding = self.vocabulary * (self.embedding_dim or self.hidden)
        return embedding + self.learned_positions * self.hidden

    @property
    def _last_norm(self) -> int:
        return self.has_final_norm * self.norm.parameters(self.hidden)

    def _vectors_of(self, layer: Layer) -> int:
        """Learned numbers of a layer outside of its matrices."""
        return layer.norms * self.norm.parameters(self.hidden) + layer.vector_parameters


def _kept_bytes(attention: Attention, fmt: KvFormat) -> int:
    """Return the bytes that a token leaves in a layer."""
    return sum(fmt.token_bytes(*row) for row in attention.kept_rows)
