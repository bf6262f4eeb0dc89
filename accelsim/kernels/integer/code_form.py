"""How rows are coded: what a linear reads, and what the kernel that makes them is asked to store.

A `CodeForm` is the contract of both. The consumer's follows from its own parameters, the producer's
from `CodedOutput`; a layer completes the second from the first.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from accelsim.config.spec import Size, Spec
from accelsim.kernels.estimate.costs import ONE, Cost, moved_bytes, vector_op
from accelsim.numerics.formats import Format
from accelsim.quantization.channel_groups import LARGEST_CANDIDATES, LARGEST_GROUPS

_ONE, _PAIR, _REDUCED = 64, 96, 32
"""Bits that an op in FP32 moves for each element: of one operand or two with its result, of one
operand that is reduced."""


COLUMN_OPS = 4
"""Ops on one number a row: its step, a bound on it, and its reciprocal."""


class CodeForm(NamedTuple):
    """Rows as codes: how they are made, and what shares a scale."""

    bits: int = 8
    """Of a code as it is stored."""
    groups: int = 1
    """Groups of channels; the base of a row is found with channels times 2^group."""
    candidates: int = 1
    """Bases that a row tries."""
    rotation: int = 0
    """Channels that are rotated together first; 0: none are."""
    calibration: Path | None = None
    """Where the groups come from; None: from the rows themselves."""
    run: int = 0
    """Channels of a row that share a scale, such as those of a head; 0: all of them."""

    @property
    def format(self) -> Format:
        """Format of the codes."""
        return Format(f"int{self.bits}")

    @property
    def settings(self) -> dict[str, Any]:
        """What the recipe of a producer says of this form: the parameters of `CodedOutput`."""
        told: dict[str, Any] = {"codes": str(self.format)}
        if self.groups > 1:
            told["code_groups"] = self.groups
        if self.candidates > 1:
            told["code_candidates"] = self.candidates
        if self.rotation:
            told["code_rotation"] = self.rotation
        if self.calibration is not None:
            told["code_calibration"] = str(self.calibration)
        return told

    @property
    def ops(self) -> tuple[tuple[str, int], ...]:
        """Vector ops on each element from a value in FP32 to its code, and the bits each moves."""
        scaled, rounded = ("multiply", _ONE), ("convert", Format.FP32.bits + self.bits)
        stages = (self.rotation.bit_length() - 1) * (("add", _ONE),) + (scaled,)
        grouped = (scaled,) * (self.groups > 1)
        lost = (("add", _PAIR), scaled, ("multiply", _PAIR), ("reduce", _REDUCED))
        tried = (scaled, rounded, rounded, scaled, *lost)
        tries = self.candidates * tried if self.candidates > 1 else ()
        found = (("maximum", _ONE), ("reduce", _REDUCED), *tries, scaled, rounded)
        return (*(stages if self.rotation else ()), *grouped, *found)

    def cost(self, rows: int, cols: int) -> Cost:
        """Return the ops between values and codes, as an estimate has them, without the last.

        rows, cols: extents of `estimate.costs`. The last one, which rounds, is there for any format
        of an output.
        """
        cost: Cost = ()
        for op, moved_bits in self.ops[:-1]:
            cost += vector_op(op, Format.FP32, rows, cols, moved_bits)
        return cost + COLUMN_OPS * vector_op("divide", Format.FP32, rows, ONE, _PAIR)

    def scale_bytes(self, rows: int) -> Cost:
        """Return the bytes of the scales of rows."""
        return moved_bytes(rows, ONE, Format.FP32.bits)

    def __str__(self) -> str:
        what = f"int{self.bits} codes"
        if self.groups > 1:
            source = self.calibration or "the rows themselves"
            what += f" in {self.groups} channel groups of {source}"
        if self.candidates > 1:
            what += f", the best of {self.candidates} bases"
        if self.rotation:
            what += f", rotated in blocks of {self.rotation}"
        return what + f", a scale a row{f' and {self.run} channels' if self.run else ''}"


class CodedOutput(Spec):
    """Choices of a kernel that can store its output as codes, for the linear that reads it."""

    coded_name: ClassVar[str] = "result"
    """Output of the problem that is coded."""

    codes: Literal["int4", "int8"] | None = None
    """Format of the codes that the output is stored as, with a scale for each row, for an integer
    linear with `input: quantized`; absent: the output is stored in the format of the problem."""
    code_groups: Annotated[int, Field(ge=1, le=LARGEST_GROUPS)] | None = None
    """Groups of channels whose scales are powers of two apart; absent: 1."""
    code_candidates: Annotated[int, Field(ge=1, le=LARGEST_CANDIDATES)] | None = None
    """Bases that a row tries; absent: 1."""
    code_rotation: Size | None = None
    """Channels that are multiplied by a Hadamard matrix before they are coded; absent: none."""
    code_calibration: Path | None = None
    """Where the groups come from; absent: from the output of the problem itself."""

    @field_validator("code_groups", "code_candidates", "code_rotation", "code_calibration")
    @classmethod
    def _belongs_to_codes(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and "codes" in info.data and info.data["codes"] is None:
            raise ValueError(f"found {value} without codes, allowed: beside codes")
        return value

    @property
    def form(self) -> CodeForm | None:
        """How the output is coded; None: it is not."""
        if self.codes is None:
            return None
        return CodeForm(
            Format(self.codes).bits,
            self.code_groups or 1,
            self.code_candidates or 1,
            self.code_rotation or 0,
            self.code_calibration if (self.code_groups or 1) > 1 else None,
        )

    @property
    def stored_dtypes(self) -> dict[str, Format]:
        """Format of the output that is coded; empty: none is."""
        return {self.coded_name: self.form.format} if self.form else {}

    def stored_form(self, _problem: Any) -> CodeForm | None:
        """Return how the output of a problem is coded; None: it is not."""
        return self.form


class CodedHeads(CodedOutput):
    """The same of attention, whose rows are those of one head."""

    coded_name: ClassVar[str] = "o"
    """Output of the problem that is coded."""

    def stored_form(self, problem: Any) -> CodeForm | None:
        """Return how the output of a problem is coded; None: it is not."""
        return self.form and self.form._replace(run=problem.widths.value)

    @field_validator("codes")
    @classmethod
    def _has_all_bits(cls, codes: str | None) -> str | None:
        if codes not in (None, "int8"):
            raise ValueError(
                f"found {codes}, allowed: int8; a scale is of a row of one head, and the linear "
                f"that brings it to that of the row rounds codes once more"
            )
        return codes

    @field_validator("code_candidates")
    @classmethod
    def _has_one_base(cls, candidates: int | None) -> int | None:
        if candidates is not None and candidates > 1:
            raise ValueError(f"found {candidates}, allowed: 1, for a row of one head")
        return candidates
