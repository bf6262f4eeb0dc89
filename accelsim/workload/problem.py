"""What is asked of a machine: attention, a matrix product, a vector function, or a layer."""

from abc import ABC, abstractmethod
from math import prod
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from accelsim.config.beside import KeysBeside
from accelsim.config.spec import Name, PositiveValue, Size, Spec
from accelsim.errors import did_you_mean
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.sources import AttentionSource, GemmSource, VectorSource

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


class AttentionProblem(_TensorProblem):
    """softmax(Q K^T / sqrt(head_dim)) V for every query head; KV heads may be shared (GQA)."""

    kind: Literal["attention"]
    """What is asked."""
    batch: Size = 1
    """Independent sequences."""
    q_heads: Size
    """Query heads per sequence."""
    kv_heads: Size
    """Key and value heads per sequence; divides q_heads."""
    head_dim: Size
    """Elements of one query, key or value row."""
    q_len: Size
    """Query rows per head; 1 for a decode step."""
    kv_len: Size
    """Key and value rows per head."""
    causal: bool = False
    """Whether query row i sees only the keys up to i + kv_len - q_len."""
    dtype: FloatFormat = Format.FP16
    """Number format of Q, K and V in HBM, and of the output, which is BF16 for FP8."""
    tensors: AttentionSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

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

    @property
    def score_pairs(self) -> int:
        """Query-key pairs of one head that the mask lets through."""
        unseen = self.q_len * (self.q_len - 1) // 2 if self.causal else 0
        return self.q_len * self.kv_len - unseen

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both matrix products, masked pairs left out."""
        return 2 * self.batch * self.q_heads * self.head_dim * self.score_pairs

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of q, k and v: [sequences x heads, rows, head_dim]."""
        keys = (self.batch * self.kv_heads, self.kv_len, self.head_dim)
        return {"q": (self.batch * self.q_heads, self.q_len, self.head_dim), "k": keys, "v": keys}

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the output o, the same as that of q."""
        return {"o": self.input_shapes["q"]}


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
