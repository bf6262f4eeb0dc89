"""Parameters of attention in integers."""

from typing import Annotated, Literal

from pydantic import Field

from accelsim.config.spec import Size, Spec
from accelsim.kernels.integer.code_form import CodedHeads
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import LARGEST_GROUPS, GroupOptions


class IntFlashChoices(Spec):
    """Choices of the int_flash kernel, the form of its output apart."""

    bits: Literal[4, 8] = 8
    """Bits of a code of Q, K and V."""
    weight_bits: Literal[4, 8] = 8
    """Bits of a code of a softmax weight, of which the sign is not used."""
    groups: Annotated[int, Field(ge=1, le=LARGEST_GROUPS)] = 4
    """Groups of the channels of Q."""
    chunk_rows: Size = 256
    """Rows of Q that share scale and groups."""
    input: Literal["float", "quantized"] = "float"
    """Q, K and V in the problem's format, to be quantized first; or codes in HBM, because what made
    them quantized them: for decode, a cache of codes."""
    tile_q: Size | None = None
    """Query rows of a tile, in elements; absent: those of the lowest estimated time."""
    tile_k: Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""

    @property
    def options(self) -> GroupOptions:
        """How queries become groups of channels."""
        return GroupOptions(
            bits=self.bits, base="static", groups=self.groups, chunk_rows=self.chunk_rows
        )

    @property
    def code_format(self) -> Format:
        """Format of the codes of Q, K and V."""
        return Format(f"int{self.bits}")

    @property
    def weight_format(self) -> Format:
        """Format of the codes of softmax weights."""
        return Format(f"int{self.weight_bits}")


class IntFlashParameters(CodedHeads, IntFlashChoices):
    """Choices of the int_flash kernel."""
