"""What all problems with tensors share: formats, shapes and bytes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from accelsim.config.spec import Name, Spec
from accelsim.errors import did_you_mean
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div

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


def bytes_of(shapes: Shapes, dtypes: Mapping[str, Format]) -> dict[str, int]:
    """Return the bytes of each tensor, packed."""
    sizes = {name: prod(shape) * dtypes[name].bits for name, shape in shapes.items()}
    return {name: ceil_div(bits, BITS_PER_BYTE) for name, bits in sizes.items()}


class TensorProblem(Spec, ABC):
    """A problem whose tensors have one format in HBM, unless it says otherwise of some."""

    name: Name
    """Name shown in reports."""
    dtype: Format
    """Number format of the tensors in HBM."""

    def to_document(self) -> dict[str, Any]:
        """Return what a file says of the problem, without what it need not say."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    @abstractmethod
    def input_shapes(self) -> Shapes:
        """Shapes of the tensors to read."""

    @property
    @abstractmethod
    def output_shapes(self) -> Shapes:
        """Shapes of the tensors to write."""

    @property
    def input_dtypes(self) -> dict[str, Format]:
        """Number format in HBM of each tensor to read."""
        return dict.fromkeys(self.input_shapes, self.dtype)

    @property
    def output_dtype(self) -> Format:
        """Number format of the outputs in HBM, unless a kernel is asked for another one."""
        return self.dtype.of_results

    @property
    def tensor_bytes(self) -> dict[str, int]:
        """Bytes of every input and output in its format."""
        outputs = dict.fromkeys(self.output_shapes, self.output_dtype)
        shapes = self.input_shapes | self.output_shapes
        return bytes_of(shapes, self.input_dtypes | outputs)

    @property
    def compulsory_bytes(self) -> int:
        """HBM traffic that nothing can avoid: each input read and each output written once."""
        return sum(self.tensor_bytes.values())
