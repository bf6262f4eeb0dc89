"""What is asked of a machine: attention, matrix products, a vector function, or a layer."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from accelsim.config.beside import KeysBeside
from accelsim.config.spec import Name, Size, Spec
from accelsim.numerics.formats import Format
from accelsim.workload.base import FLOAT_FORMATS, FloatFormat, GemmFormat, Shapes, TensorProblem
from accelsim.workload.grouped import GroupedGemmProblem
from accelsim.workload.sources import AttentionSource, GemmSource
from accelsim.workload.vector import VectorProblem

__all__ = [
    "FLOAT_FORMATS",
    "AttentionProblem",
    "FloatFormat",
    "GemmProblem",
    "GroupedGemmProblem",
    "LayerPart",
    "LayerProblem",
    "Problem",
    "Shapes",
    "VectorProblem",
    "Workload",
]


class AttentionProblem(TensorProblem):
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


class GemmProblem(TensorProblem):
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


Problem = AttentionProblem | GemmProblem | GroupedGemmProblem | VectorProblem

_IN_A_LAYER = {
    "LayerAttention": (AttentionProblem, "Attention as a part of a layer."),
    "LayerGemm": (GemmProblem, "A matrix product as a part of a layer."),
    "LayerGroupedGemm": (GroupedGemmProblem, "Products of experts as a part of a layer."),
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
