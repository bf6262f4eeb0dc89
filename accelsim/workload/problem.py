"""What is asked of a machine: attention, a matrix product, a vector function, or a layer."""

from abc import ABC, abstractmethod
from math import prod
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from accelsim.config.beside import KeysBeside
from accelsim.config.spec import Name, PositiveValue, Size, SizeOrZero, Spec
from accelsim.errors import did_you_mean
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.sources import (
    AttentionSource,
    GemmSource,
    ModelHeadsSource,
    VectorSource,
)

Shapes = dict[str, tuple[int, ...]]

FLOAT_FORMATS = (Format.FP32, Format.BF16, Format.FP16, Format.FP8_E4M3, Format.FP8_E5M2)
GEMM_FORMATS = (*FLOAT_FORMATS, Format.INT8, Format.INT4)


def _one_of(formats: tuple[Format, ...]) -> BeforeValidator:
    def check(found: object) -> object:
        # Before the format is read, so that only what this problem allows is listed.
        if isinstance(found, str) and found not in formats:
            is_misspelt = found not in set(Format)
            hint = did_you_mean(found, formats) if is_misspelt else ""
            ending = f"{hint};" if hint else ","
            raise ValueError(f"found '{found}'{ending} allowed: {', '.join(formats)}")
        return found

    return BeforeValidator(check)


def _names(formats: tuple[Format, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": [str(each) for each in formats]})


FloatFormat = Annotated[Format, _one_of(FLOAT_FORMATS), _names(FLOAT_FORMATS)]
GemmFormat = Annotated[Format, _one_of(GEMM_FORMATS), _names(GEMM_FORMATS)]


def _bytes_of(shapes: Shapes, fmt: Format) -> dict[str, int]:
    sizes = {name: prod(shape) * fmt.bits for name, shape in shapes.items()}
    return {name: ceil_div(bits, BITS_PER_BYTE) for name, bits in sizes.items()}


class _TensorProblem(Spec, ABC):
    name: Name
    """Name shown in reports."""
    dtype: Format
    """Number format of the tensors in HBM."""

    @property
    @abstractmethod
    def input_shapes(self) -> Shapes:
        """Shapes of the tensors to read."""

    @property
    @abstractmethod
    def output_shapes(self) -> Shapes:
        """Shapes of the tensors to write."""

    @property
    def output_dtype(self) -> Format:
        """Number format of the outputs in HBM, unless a kernel is asked for another one."""
        return self.dtype.of_results

    @property
    def tensor_bytes(self) -> dict[str, int]:
        """Bytes of every input and output in its format."""
        inputs = _bytes_of(self.input_shapes, self.dtype)
        return inputs | _bytes_of(self.output_shapes, self.output_dtype)

    @property
    def compulsory_bytes(self) -> int:
        """HBM traffic that nothing can avoid: each input read and each output written once."""
        return sum(self.tensor_bytes.values())


class SequenceSpec(Spec):
    """Tokens of a sequence: those that are computed now, and those whose keys are there before."""

    new: Size
    """New tokens: query rows per head."""
    cached: SizeOrZero = 0
    """Tokens before them, whose keys and values are there."""
    count: Size = 1
    """How many equal sequences there are, one after the other."""


class Lengths(NamedTuple):
    """Equal sequences, one after the other."""

    batch: int
    q_len: int
    """Query rows per head."""
    kv_len: int
    """Key and value rows per head."""

    def score_pairs(self, *, causal: bool) -> int:
        """Return the query-key pairs of a head of all of them that the mask lets through."""
        unseen = self.q_len * (self.q_len - 1) // 2 if causal else 0
        return self.batch * (self.q_len * self.kv_len - unseen)


class AttentionProblem(_TensorProblem):
    """softmax(Q K^T / sqrt(head_dim)) V for every query head; KV heads may be shared (GQA)."""

    kind: Literal["attention"]
    """What is asked."""
    sequences: tuple[SequenceSpec, ...] | None = Field(default=None, min_length=1)
    """Sequences of different lengths, in the place of batch, q_len and kv_len."""
    batch: Size = 1
    """Independent sequences."""
    q_heads: Size
    """Query heads per sequence."""
    kv_heads: Size
    """Key and value heads per sequence; divides q_heads."""
    head_dim: Size
    """Elements of one query, key or value row."""
    q_len: Size = Field(default=None, validate_default=True)
    """Query rows per head; 1 for a decode step. Required without sequences."""
    kv_len: Size = Field(default=None, validate_default=True)
    """Key and value rows per head. Required without sequences."""
    causal: bool = False
    """Whether query row i sees only the keys up to i + kv_len - q_len, or up to i + cached."""
    dtype: FloatFormat = Format.FP16
    """Number format of Q, K and V in HBM, and of the output, which is BF16 for FP8."""
    tensors: AttentionSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @field_validator("batch")
    @classmethod
    def _batch_is_said_once(cls, batch: int, info: ValidationInfo) -> int:
        _refuse_beside_sequences(batch, info)
        return batch

    @field_validator("q_len", "kv_len", mode="wrap")
    @classmethod
    def _lengths_are_said_once(
        cls, found: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> int:
        if found is not None:
            _refuse_beside_sequences(found, info)
            return int(check(found))
        if info.data.get("sequences", ()) is None:
            raise PydanticCustomError("missing", "Field required")
        return 0

    @field_validator("kv_heads")
    @classmethod
    def _kv_heads_divide_q_heads(cls, kv_heads: int, info: ValidationInfo) -> int:
        q_heads = info.data.get("q_heads", kv_heads)
        if q_heads % kv_heads:
            raise ValueError(f"found {kv_heads}, allowed: a divisor of q_heads = {q_heads}")
        return kv_heads

    @field_validator("causal")
    @classmethod
    def _causal_rows_see_a_key(cls, causal: bool, info: ValidationInfo) -> bool:
        q_len, kv_len = info.data.get("q_len", 0), info.data.get("kv_len", 0)
        if causal and q_len > kv_len > 0:
            raise ValueError(
                f"found true with q_len = {q_len} and kv_len = {kv_len}, "
                "allowed: true only if kv_len >= q_len"
            )
        return causal

    @field_validator("tensors")
    @classmethod
    def _a_text_has_one_length(
        cls, source: AttentionSource | None, info: ValidationInfo
    ) -> AttentionSource | None:
        if isinstance(source, ModelHeadsSource) and info.data.get("sequences"):
            raise ValueError(
                "found source model with sequences, allowed with them: uniform, hybrid, file"
            )
        return source

    @property
    def lengths(self) -> tuple[Lengths, ...]:
        """Lengths of all sequences, in order."""
        if self.sequences is None:
            return (Lengths(self.batch, self.q_len, self.kv_len),)
        return tuple(
            Lengths(each.count, each.new, each.cached + each.new) for each in self.sequences
        )

    @property
    def parts(self) -> tuple["AttentionProblem", ...]:
        """Problems of equal sequences that it consists of, in order; itself where all are equal."""
        if self.sequences is None:
            return (self,)
        return tuple(self.of_equal(*each) for each in self.lengths)

    def of_equal(self, batch: int, q_len: int, kv_len: int) -> "AttentionProblem":
        """Return the problem with `batch` sequences of these lengths instead of its own."""
        changed = {"sequences": None, "batch": batch, "q_len": q_len, "kv_len": kv_len}
        return self.model_copy(update=changed)

    @property
    def num_sequences(self) -> int:
        """Sequences, equal ones counted."""
        return sum(each.batch for each in self.lengths)

    @property
    def most_queries(self) -> int:
        """Query rows per head of the sequence that has the most."""
        return max(each.q_len for each in self.lengths)

    @property
    def most_keys(self) -> int:
        """Key rows per head of the sequence that has the most."""
        return max(each.kv_len for each in self.lengths)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both matrix products, masked pairs left out."""
        pairs = sum(each.score_pairs(causal=self.causal) for each in self.lengths)
        return 2 * self.q_heads * self.head_dim * pairs

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of q, k and v: [sequences x heads, rows, head_dim].

        With `sequences` [heads x rows of all, head_dim]: sequences one after the other, in each its
        heads, in each its rows.
        """
        if self.sequences is not None:
            q_rows = sum(each.batch * each.q_len for each in self.lengths)
            kv_rows = sum(each.batch * each.kv_len for each in self.lengths)
            packed = (self.kv_heads * kv_rows, self.head_dim)
            return {"q": (self.q_heads * q_rows, self.head_dim), "k": packed, "v": packed}
        keys = (self.batch * self.kv_heads, self.kv_len, self.head_dim)
        return {"q": (self.batch * self.q_heads, self.q_len, self.head_dim), "k": keys, "v": keys}

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the output o, the same as that of q."""
        return {"o": self.input_shapes["q"]}


def _refuse_beside_sequences(found: Any, info: ValidationInfo) -> None:
    if info.data.get("sequences"):
        raise ValueError(
            f"found {found} beside sequences, allowed: sequences, or batch, q_len and kv_len"
        )


class GemmProblem(_TensorProblem):
    """C = A B with A [m, k] and B [k, n]."""

    kind: Literal["gemm"]
    """What is asked."""
    m: Size
    """Rows of A and C; tokens of a linear."""
    n: Size
    """Columns of B and C; output features of a linear."""
    k: Size
    """Columns of A and rows of B; input features of a linear."""
    dtype: GemmFormat = Format.FP16
    """Number format of A and B in HBM, and of C, which is BF16 for FP8 and INT32 for integers."""
    tensors: GemmSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the product."""
        return self.m * self.n * self.k

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of a and b."""
        return {"a": (self.m, self.k), "b": (self.k, self.n)}

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the product c."""
        return {"c": (self.m, self.n)}


class VectorProblem(_TensorProblem):
    """A function of each row, or of each element, of a matrix [rows, cols]."""

    kind: Literal["vector"]
    """What is asked."""
    function: Literal["copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu_mul"]
    """softmax and norms work along rows, norms without learned weights; gelu is its tanh form;
    silu_mul is silu(x) y, the activation of a gated feed-forward."""
    rows: Size
    """Rows of the matrix; tokens."""
    cols: Size
    """Columns of the matrix; features."""
    epsilon: PositiveValue = 1e-5
    """What norms add to the mean square before its root."""
    dtype: FloatFormat = Format.FP16
    """Number format of inputs and output in HBM."""
    tensors: VectorSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @property
    def output_dtype(self) -> Format:
        """Number format of the result in HBM."""
        return self.dtype

    @property
    def macs(self) -> int:
        """The matrix unit has nothing to do."""
        return 0

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of x and, for silu_mul, y."""
        names = ("x", "y") if self.function == "silu_mul" else ("x",)
        return dict.fromkeys(names, (self.rows, self.cols))

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the result."""
        return {"result": (self.rows, self.cols)}


Problem = AttentionProblem | GemmProblem | VectorProblem

_IN_A_LAYER = {
    "LayerAttention": (AttentionProblem, "Attention as a part of a layer."),
    "LayerGemm": (GemmProblem, "A matrix product as a part of a layer."),
    "LayerVector": (VectorProblem, "A vector function as a part of a layer."),
}
"""Name of a part of a layer in the JSON Schema -> its problem, and what the schema says it is."""


class LayerPart(Spec):
    """A problem, and how many equal ones a layer holds; a file has both side by side."""

    problem: Annotated[Problem, Field(discriminator="kind")]
    """What each of them asks."""
    count: Size = 1
    """How many equal ones the layer holds."""


class LayerProblem(Spec):
    """Problems that run one after the other, such as those of one decoder layer."""

    kind: Literal["layer"]
    """What is asked."""
    name: Name
    """Name shown in reports."""
    problems: tuple[Annotated[LayerPart, KeysBeside("problem", _IN_A_LAYER)], ...] = Field(
        min_length=1
    )
    """Parts of the layer in the order they run."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all parts."""
        return sum(part.count * part.problem.macs for part in self.problems)

    @property
    def compulsory_bytes(self) -> int:
        """HBM traffic that nothing can avoid as long as parts meet only in HBM."""
        return sum(part.count * part.problem.compulsory_bytes for part in self.problems)


Workload = Annotated[Problem | LayerProblem, Field(discriminator="kind")]
