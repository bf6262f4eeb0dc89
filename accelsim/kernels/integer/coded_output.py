"""A coded output in HBM: its matrices, the groups of its channels, and what its codes stand for."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from accelsim.errors import QuantizationError
from accelsim.kernels.base import Array
from accelsim.kernels.estimate.footprint import Footprint
from accelsim.kernels.files import find_parameter_file
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.kernels.integer.coder import Matrices
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.quantization.calibration_file import load_calibration
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, channel_groups
from accelsim.quantization.codes import Values
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.workload.tensors import GemmTensors, Reader


def group_factors(form: CodeForm, exact: Array, reader: Reader | None) -> Values:
    """Return 2^group of every channel [k] of an output, whose groups are those of its reader.

    exact: the output in float64 [rows, k], which is calibrated itself where the form names no
    calibration. Raises QuantizationError for a calibration with another form.
    """
    if form.groups == 1:
        return np.ones(exact.shape[1], np.float32)
    if form.calibration is None:
        options = GroupOptions(bits=form.bits, groups=form.groups, chunk_rows=len(exact))
        return channel_groups(exact.astype(np.float32)[None], options).channel_factors(0)
    calibration = load_calibration(find_parameter_file(form.calibration))
    nothing = np.zeros((exact.shape[1], 0), np.float32)
    found = calibration.groups_of(GemmTensors(exact, nothing, *(reader or ())))
    _check_groups(form, found)
    return found.channel_factors(0)


def _check_groups(form: CodeForm, found: ChannelGroups) -> None:
    """Refuse groups that a producer cannot find the base of, or of another number."""
    options = found.options
    told = (options.groups, options.base, options.use_bias, found.chunks)
    if told != (form.groups, "row", False, 1):
        bias = "with" if options.use_bias else "without"
        raise QuantizationError(
            f"{form.calibration}: found groups = {options.groups}, base = {options.base}, "
            f"{bias} a bias, {found.chunks} chunks of rows; allowed: groups = {form.groups}, "
            f"base = row, without a bias, one chunk"
        )


def coded_matrices(
    builder: ProgramBuilder | Footprint,
    name: str,
    shape: tuple[int, int],
    form: CodeForm,
    factors: tuple[int, Array | None] = (1, None),
) -> Matrices:
    """Place the matrices of an output [rows, cols] in HBM.

    factors: heads that have groups of their own, and 2^group of their channels [heads, cols].
    """
    rows, cols = shape
    heads, powers = factors
    fp32, power = Format.FP32, Format.E8M0

    def given(which: str, data: Array | None) -> Any:
        return builder.tensor(f"{name}_{which}", "input", heads, cols, power, data)

    worth = None if powers is None else np.float32(1) / powers
    return Matrices(
        codes=builder.tensor(f"{name}_codes", "output", rows, cols, form.format),
        row_scale=builder.tensor(f"{name}_scale", "output", rows, 1, fp32),
        factor=given("factor", powers) if form.groups > 1 else builder.no_tensor(power),
        worth=given("worth", worth) if form.candidates > 1 else builder.no_tensor(power),
    )


def coded_names(name: str) -> tuple[str, str]:
    """Return the names of the codes of an output and of their scales."""
    return f"{name}_codes", f"{name}_scale"


def values_of_codes(
    data: Mapping[str, Array], name: str, form: CodeForm, factors: Array | None
) -> Array:
    """Return what the codes of an output stand for in FP32 [rows, cols], in channels as they were.

    factors: those of every row [rows, cols], or of all of them [cols].
    """
    codes, scale = (data[each] for each in coded_names(name))
    scaled = codes.astype(np.float64) * scale
    values = scaled if factors is None else scaled / factors
    if form.rotation:
        # A Hadamard matrix is symmetric and its own inverse.
        turned = hadamard_rotation(values.shape[1], form.rotation)
        return turned.of_activations(values.astype(np.float32))
    return np.asarray(values.astype(np.float32))
