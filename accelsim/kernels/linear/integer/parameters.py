"""Parameters of quantized linears, and the calibration that they name."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from accelsim.config.spec import Size, SizeOrZero, Spec
from accelsim.errors import QuantizationError
from accelsim.kernels.files import find_parameter_file
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.numerics.formats import Format
from accelsim.quantization.calibration import Calibration, Provenance
from accelsim.quantization.calibration_file import load_calibration
from accelsim.quantization.channel_groups import (
    LARGEST_CANDIDATES,
    LARGEST_GROUPS,
    ChannelGroups,
    GroupBase,
    GroupOptions,
    GroupRanges,
    GroupRotation,
    GroupRounding,
    channel_groups,
)
from accelsim.quantization.coded_rows import RUN_BITS
from accelsim.quantization.codes import Quantized, Values
from accelsim.quantization.rotation import Rotation
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

CODE_FORMATS = {4: Format.INT4, 8: Format.INT8}
"""Bits of a code -> its format."""
Bits = Literal[4, 8]
WeightRounding = Literal["nearest", "gptq"]


class QuantizedParameters(Spec):
    """Choices of every linear on the integer array."""

    activation_bits: Bits = 8
    """Bits of a code of X: 4 or 8."""
    weight_bits: Bits = 8
    """Bits of a code of W: 4 or 8."""
    weight_scale: Literal["column", "tensor"] = "column"
    """What shares a scale in W: a column, which is an output channel, or all of it."""
    input: Literal["float", "quantized"] = "float"
    """X in the problem's format, to be quantized first; or codes in HBM, because the kernel that
    made X quantized it before it stored it."""
    calibration: Path | None = None
    """What `accelsim calibrate` wrote; absent: calibrated on the X of the problem itself."""
    tile_m: Size | None = None
    """Rows of a tile of X and Y, in elements; absent: chosen."""
    tile_n: Size | None = None
    """Columns of a tile of W and Y, in elements; absent: chosen."""
    tile_k: Size | None = None
    """Input channels of one product, in elements; absent: chosen, all if they fit."""

    @property
    def formats(self) -> tuple[Format, Format]:
        """Formats of the codes of X and W."""
        return CODE_FORMATS[self.activation_bits], CODE_FORMATS[self.weight_bits]

    @property
    def run(self) -> int:
        """Channels of a row of X that share a scale; 0: all of them."""
        return 0


class CodedInput(QuantizedParameters):
    """Choices of the linears that read rows that their producer has coded."""

    input_run: Size | None = None
    """Channels of a row of quantized X that share a scale, such as those of a head, in codes of 8
    bits; absent: all of them."""

    @property
    def run(self) -> int:
        """Channels of a row of X that share a scale; 0: all of them."""
        return self.input_run or 0

    @property
    def reads_rows(self) -> bool:
        """Whether X is codes of rows that found their base, as producers make them."""
        return False

    def read_form(self, problem: GemmProblem) -> CodeForm:
        """Return how X is coded, if `reads_rows`; raises an AccelsimError."""
        bits = RUN_BITS if self.run else self.activation_bits
        return CodeForm(bits=bits, run=self.run)

    def completed(self, problem: GemmProblem, run: int) -> dict[str, Any]:
        """Return what a recipe is to say besides, if a producer codes X with such runs."""
        return {"input_run": run} if run and self.input_run is None else {}


class GroupedParameters(CodedInput):
    """Choices of the linears whose input channels are in groups.

    Beside a calibration file, what is given must agree with the file.
    """

    base: GroupBase | None = None
    """Where the scale of the largest channels comes from: every row finds it in the run, or it is
    calibrated; absent: row, or as in the calibration."""
    groups: Annotated[int, Field(ge=1, le=LARGEST_GROUPS)] | None = None
    """Groups of channels; absent: 8, or those of the calibration."""
    chunk_rows: Size | None = None
    """Rows that share bias, groups and a static scale; absent: 1024, or those of the
    calibration."""
    use_bias: bool | None = None
    """Whether channels are shifted by the middle of their range; absent: they are not, or as in the
    calibration."""
    rounding: GroupRounding | None = None
    """How the range of a channel becomes a scale; absent: up, or as in the calibration."""
    first_rows: SizeOrZero | None = None
    """Rows at the start that are a chunk of their own; absent: none, or as in the calibration."""
    ranges: GroupRanges | None = None
    """What the range of a channel is: its largest magnitude; or what is typical of it, the
    fourth-power mean of its share of the root mean square of a row; absent: largest, or as in the
    calibration."""
    quantile: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the values of a channel that its range holds; absent: 1, or as in the
    calibration."""
    candidates: Annotated[int, Field(ge=1, le=LARGEST_CANDIDATES)] | None = None
    """Bases that a row tries, its largest magnitude over 2^(i/4), to take that of the smallest
    squared error; absent: 1, or as in the calibration."""
    rotation: GroupRotation | None = None
    """Whether blocks of channels are multiplied by a Hadamard matrix before X and W are quantized:
    X in the run, W before it; absent: none, or as in the calibration."""
    rotation_block: Size | None = None
    """Channels of a block, a power of two that divides them; absent: 128, or fewer if need be."""
    weight_rounding: WeightRounding | None = None
    """How W becomes codes: the nearest ones; or those of the calibration, whose errors compensate
    each other; absent: gptq if the calibration has weights, else nearest."""

    @property
    def options(self) -> GroupOptions:
        """Options of a calibration on the problem itself."""
        return GroupOptions(bits=self.activation_bits, **self._asked)

    def rotation_of(self, problem: GemmProblem) -> Rotation | None:
        """Return how the channels are rotated, if they are; raises QuantizationError."""
        return group_options(self).rotation_of(problem.k)

    @property
    def _asked(self) -> dict[str, Any]:
        names = [field.name for field in fields(GroupOptions) if field.name != "bits"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def reads_rows(self) -> bool:
        """Whether X is codes of rows that found their base, as producers make them."""
        options = group_options(self)
        return (self.input, options.base, options.use_bias) == ("quantized", "row", False)

    def read_form(self, problem: GemmProblem) -> CodeForm:
        """Return how X is coded; raises QuantizationError for more than one chunk of rows."""
        options, hint = group_options(self), f"such as chunk_rows = {problem.m}"
        chunks = len(options.chunk_starts(problem.m))
        if self.calibration is not None:
            hint = f"with {self.calibration}"
            chunks = max(each.chunks for each in load_named(self.calibration).inputs.values())
        if chunks > 1:
            raise QuantizationError(
                f"{problem.name}: found {chunks} chunks of {options.chunk_rows} rows, allowed: "
                f"one, whose groups the producer of X knows; {hint}"
            )
        rotation = self.rotation_of(problem)
        return (
            super()
            .read_form(problem)
            ._replace(
                groups=options.groups,
                candidates=options.candidates,
                rotation=rotation.block if rotation else 0,
                calibration=self.calibration if options.groups > 1 else None,
            )
        )

    def completed(self, problem: GemmProblem, run: int) -> dict[str, Any]:
        """Return what a recipe is to say besides, if a producer codes X with such runs."""
        told = super().completed(problem, run)
        is_free = self.calibration is None and self.chunk_rows is None
        if is_free and problem.m > self.options.chunk_rows:
            told["chunk_rows"] = problem.m
        return told

    def check_agreement(self, calibrated: Provenance) -> None:
        """Raise QuantizationError where a calibration was made with other options."""
        asked = {"bits": self.activation_bits, **self._asked}
        if _is_of_any_rotation(calibrated):
            asked = {key: value for key, value in asked.items() if not key.startswith("rotation")}
        for name, value in asked.items():
            key = "activation_bits" if name == "bits" else name
            self._check_same(key, value, getattr(calibrated.options, name))
        if self.takes_weights(calibrated):
            self._check_same("weight_bits", self.weight_bits, calibrated.weight_bits)
            self._check_same("weight_scale", self.weight_scale, "column")

    def takes_weights(self, calibrated: Provenance | None) -> bool:
        """Return whether the codes of W are those of a calibration; raises QuantizationError."""
        is_there = calibrated is not None and calibrated.weight_bits is not None
        if self.weight_rounding == "gptq" and not is_there:
            raise QuantizationError(
                f"weight_rounding: found gptq, and calibration = {self.calibration} has no "
                f"weights; allowed: nearest, or a calibration made with `--weights gptq`"
            )
        return is_there and self.weight_rounding != "nearest"

    def _check_same(self, key: str, asked: object, found: object) -> None:
        if asked != found:
            raise QuantizationError(
                f"{self.calibration}: was made with {key} = {found}, found {key} = {asked}; "
                f"allowed: the same, or a calibration made with {asked}"
            )


def _is_of_any_rotation(calibrated: Provenance) -> bool:
    """Return whether the groups are those of the channels rotated or not: there is but one."""
    options, form = calibrated.options, (1, "row", False, None)
    return (options.groups, options.base, options.use_bias, calibrated.weight_bits) == form


def input_peaks(parameters: QuantizedParameters, tensors: GemmTensors) -> Values:
    """Return the largest magnitude of every channel of X [k], from the file or from X itself."""
    if parameters.calibration is None:
        peaks: Values = np.abs(tensors.a).max(0)
        return peaks
    return load_named(parameters.calibration).groups_of(tensors).channel_peaks


def group_options(parameters: GroupedParameters) -> GroupOptions:
    """Return how channels are grouped, from the calibration file or the parameters alone."""
    if parameters.calibration is None:
        parameters.takes_weights(None)
        return parameters.options
    calibrated = load_named(parameters.calibration).provenance
    parameters.check_agreement(calibrated)
    if parameters.rotation is None or not _is_of_any_rotation(calibrated):
        return calibrated.options
    block = parameters.rotation_block
    return replace(calibrated.options, rotation=parameters.rotation, rotation_block=block)


def input_groups(parameters: GroupedParameters, tensors: GemmTensors) -> ChannelGroups:
    """Return the groups of the channels of X, from the file or from X itself."""
    if parameters.calibration is None:
        return channel_groups(tensors.a[None], parameters.options)
    return load_named(parameters.calibration).groups_of(tensors)


def stored_weights(parameters: GroupedParameters, tensors: GemmTensors) -> Quantized | None:
    """Return the codes of W that the calibration has, or None if they are to be rounded here."""
    calibration = parameters.calibration and load_named(parameters.calibration)
    if not calibration or not parameters.takes_weights(calibration.provenance):
        return None
    return calibration.weights_of(tensors)


def load_named(calibration: Path) -> Calibration:
    """Return the calibration that a parameter names; raises an AccelsimError."""
    return load_calibration(find_parameter_file(calibration))
