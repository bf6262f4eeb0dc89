"""What is asked of a machine: attention, matrix products, a vector function, or a layer."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from accelsim.config.beside import KeysBeside
from accelsim.config.spec import Name, Size, Spec
from accelsim.numerics.formats import Format
from accelsim.workload.attention import AttentionProblem, Lengths, SequenceSpec
from accelsim.workload.base import FLOAT_FORMATS, FloatFormat, GemmFormat, Shapes, TensorProblem
from accelsim.workload.flow import Source, source_of
from accelsim.workload.grouped import GroupedGemmProblem
from accelsim.workload.sources import GemmSource
from accelsim.workload.vector import VectorProblem

__all__ = [
    "FLOAT_FORMATS",
    "AttentionProblem",
    "FloatFormat",
    "GemmProblem",
    "GroupedGemmProblem",
    "LayerPart",
    "LayerProblem",
    "Lengths",
    "Problem",
    "SequenceSpec",
    "Shapes",
    "VectorProblem",
    "Workload",
]


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
    reads: dict[str, str] = Field(default_factory=dict)
    """Inputs that an earlier part stores, by their names in the problem: {a: norm}, or
    {a: norm.sum} where norm has several outputs, or {q: "qkv[0:4096]"} for columns of it. As one
    program, a is what norm stored."""
    recipe: str | None = None
    """Kernel of this part with its parameters, such as tender(input=quantized), where none is
    asked for its kind; absent: the library of the machine picks it."""


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

    @field_validator("problems")
    @classmethod
    def _parts_read_from_earlier_ones(cls, parts: tuple[LayerPart, ...]) -> tuple[LayerPart, ...]:
        for number, part in enumerate(parts):
            _sources(part, parts[:number])
        return parts

    @property
    def sources(self) -> tuple[dict[str, Source], ...]:
        """What each part reads of earlier ones, by names of its inputs."""
        parts = self.problems
        return tuple(_sources(part, parts[:number]) for number, part in enumerate(parts))

    def to_document(self) -> dict[str, Any]:
        """Return what a file says of the layer, without what it need not say."""
        return {
            "kind": self.kind,
            "name": self.name,
            "problems": [
                part.problem.to_document()
                | part.model_dump(mode="json", exclude_defaults=True, exclude={"problem"})
                for part in self.problems
            ],
        }

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all parts."""
        return sum(part.count * part.problem.macs for part in self.problems)

    @property
    def compulsory_bytes(self) -> int:
        """HBM traffic that nothing can avoid as long as parts meet only in HBM."""
        return sum(part.count * part.problem.compulsory_bytes for part in self.problems)


def _sources(part: LayerPart, earlier: tuple[LayerPart, ...]) -> dict[str, Source]:
    problems = [each.problem for each in earlier]
    return {
        name: source_of(name, text, part.problem, problems) for name, text in part.reads.items()
    }


Workload = Annotated[Problem | LayerProblem, Field(discriminator="kind")]
