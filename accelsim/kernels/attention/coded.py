"""Attention whose output is stored as codes, a scale for each row of a head.

A row of all heads is in as many work items as heads. So each item finds the base of its own rows,
and the linear that reads them brings them together (`quantization.coded_rows`). The coder is the
last step of online softmax; `product` and the columns of its loop are free then.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.kernels.attention.operands import TilesOf
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.base import Array
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.kernels.integer.coded_output import coded_matrices, group_factors, values_of_codes
from accelsim.kernels.integer.coder import Matrices, allocate_coder, coder_of
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer
from accelsim.quantization.codes import Values
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

_PREFIX = "coder_"
_FREE = {"large": "product", "peak": "tile_sum", "part": "rescale"}
"""Buffer of a coder -> that of online softmax which nobody needs any more."""


def check_coded(
    name: str, problem: AttentionProblem, form: CodeForm | None, vector: Format
) -> None:
    """Refuse codes that the output of a kernel cannot have; vector: format of its vector path.

    Raises WorkloadError, and QuantizationError for a rotation that does not divide a head.
    """
    if form is None:
        return
    if form.rotation:
        hadamard_rotation(problem.widths.value, form.rotation)
    if vector != Format.FP32:
        raise WorkloadError(
            f"{name}: found codes = {form.format} beside a vector path in {vector}, allowed: a "
            f"precision with the vector path in fp32, in which codes are made"
        )
    if form.groups > 1 and problem.sequences is not None:
        raise WorkloadError(
            f"{name}: found code_groups = {form.groups} beside sequences, allowed: 1, or a batch "
            f"of one length, whose rows say which head they belong to"
        )


def allocate_output(
    rows: TilesOf, formats: StepFormats, output: Buffer, cols: Any
) -> dict[str, Buffer]:
    """Declare where `output` is rounded before it is stored: `stored`, or the tiles of a coder."""
    if formats.coded is not None:
        own = allocate_coder(rows.builder, formats.coded, rows.height, cols, rows.prefix)
        return {_PREFIX + key: buffer for key, buffer in own.items()}
    return {"stored": rows.shared(output, "stored", cols, formats.output)}


class CodedHeads(NamedTuple):
    """The output of a problem as codes."""

    problem: AttentionProblem
    form: CodeForm
    hbm: Matrices
    factors: Values | None
    """2^group of the channels of every head [q_heads, value_dim]; None without numbers."""

    @classmethod
    def placed(
        cls,
        builder: ProgramBuilder,
        problem: AttentionProblem,
        form: CodeForm,
        tensors: AttentionTensors | None,
    ) -> "CodedHeads":
        """Place codes and scales in HBM; raises QuantizationError for another calibration."""
        heads, dim = problem.q_heads, problem.widths.value
        factors = None
        if tensors is not None:
            factors = _factors(problem, form, tensors).reshape(heads, dim)
        shape = (_query_rows(problem), dim)
        hbm = coded_matrices(builder, "o", shape, form, (heads, factors))
        return cls(problem, form, hbm, factors)

    def with_coder(self, builder: ProgramBuilder, buffers: dict[str, Buffer]) -> dict[str, Any]:
        """Return the buffers of a query tile with a coder for `stored`."""
        own = {key.removeprefix(_PREFIX): buffers[key] for key in buffers if _PREFIX in key}
        free = {key: buffers[name] for key, name in _FREE.items()}
        # Rows of a head follow each other, whatever the lengths of sequences without groups.
        span = self.problem.q_len if self.problem.sequences is None else _query_rows(self.problem)
        coder = coder_of(builder, self.form, self.hbm, span, own | free)
        return {k: v for k, v in buffers.items() if _PREFIX not in k} | {"stored": coder}

    def values(self, data: dict[str, Array]) -> Array:
        """Return what the codes stand for [rows of Q, value_dim]."""
        if self.form.groups == 1 or self.factors is None:
            return values_of_codes(data, "o", self.form, None)
        own = np.repeat(self.factors, self.problem.q_len, axis=0)
        return values_of_codes(data, "o", self.form, np.tile(own, (self.problem.batch, 1)))


def _query_rows(problem: AttentionProblem) -> int:
    """Return the rows of all query heads of all sequences."""
    return prod(problem.output_shapes["o"][:-1])


def _factors(problem: AttentionProblem, form: CodeForm, tensors: AttentionTensors) -> Values:
    """Return 2^group of the channels of all heads side by side [q_heads x value_dim]."""
    width = problem.q_heads * problem.widths.value
    if form.groups == 1:
        return np.ones(width, np.float32)
    by_head = softmax_attention(problem, tensors).reshape(
        problem.batch, problem.q_heads, -1, problem.widths.value
    )
    rows = by_head.swapaxes(1, 2).reshape(-1, width)
    return group_factors(form, rows, tensors.reader)
