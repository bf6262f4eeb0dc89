"""What kernels over channel groups share: calibration, groups of channels, numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.integer.chunks import even_groups, products_of, spans_of
from accelsim.kernels.integer.known import Known
from accelsim.kernels.linear.integer.operands import (
    check_activations,
    column_scales,
    quantized_weights,
    row_products,
)
from accelsim.kernels.linear.integer.parameters import (
    GroupedParameters,
    group_options,
    input_groups,
    stored_weights,
)
from accelsim.kernels.linear.integer.scheme import Plan, RangeOf, Scheme, Work
from accelsim.kernels.linear.integer.tiles import panel_sizes
from accelsim.kernels.linear.rotation import rotated
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, Span
from accelsim.quantization.coded_rows import coded_runs
from accelsim.quantization.codes import Quantized, Values, check_finite, reciprocal
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


def grouped_plan(
    problem: GemmProblem,
    parameters: GroupedParameters,
    tensors: GemmTensors | None,
    product: Callable[..., None],
    *,
    drains: bool,
) -> Plan:
    """Calibrate or load the groups and quantize the weights; raises QuantizationError.

    drains: the sums of every group leave the array; if not, it doubles them between two groups. If
    X is rotated, groups are those of the rotated X.
    """
    rotation = parameters.rotation_of(problem)
    given = None if tensors is None else tensors.a
    if tensors is not None:
        check_activations(tensors)
        tensors = rotated(tensors, rotation)
    plan = _plan(problem, parameters, tensors, product, drains=drains)
    return plan.of_rotated(rotation, given)


def _plan(
    problem: GemmProblem,
    parameters: GroupedParameters,
    tensors: GemmTensors | None,
    product: Callable[..., None],
    *,
    drains: bool,
) -> Plan:
    """Return the plan of X and W as they are quantized."""
    known: Known = {}
    groups: ChannelGroups | None = None
    group: NDArray[Any]
    options = group_options(parameters)
    if tensors is None:
        spans = spans_of(options.chunk_starts(problem.m), problem.m)
        group = even_groups(options.groups, problem.k, len(spans))
    else:
        groups = input_groups(parameters, tensors)
        spans = list(groups.spans(problem.m))
        group, known = groups.group[: len(spans)], _known(parameters, tensors, groups, len(spans))
    sizes = panel_sizes(problem, parameters).tolist()
    work = Work(drains=products_of(group, sizes)) if drains else Work(shifts=options.groups - 1)
    # The scale of the output is that of the last group.
    worth = 2.0 ** np.arange(options.groups)[::-1]
    statistics = {"groups_used": float(np.mean([len(np.unique(own)) for own in group]))}
    range_of: RangeOf = "scaled_row" if options.base == "row" else "calibration"
    return Plan(
        problem,
        Scheme(spans, work, options.use_bias, range_of, options.candidates, parameters.run),
        known,
        product,
        group,
        factors=np.tile(worth, (len(spans), 1)),
        chosen=_chosen(options),
        statistics=statistics | _clipping(groups, spans),
    )


def _clipping(groups: ChannelGroups | None, spans: Sequence[Span]) -> dict[str, float]:
    """Return how often the calibration saw codes clipped, as a mean over the rows at hand."""
    if groups is None or (groups.options.base, groups.options.candidates) == ("row", 1):
        return {}
    rows = [span.stop - span.start for span in spans]
    share = np.average(groups.clipped[: len(spans)], weights=rows)
    return {"codes_clipped_in_calibration": float(share)}


def _chosen(options: GroupOptions) -> dict[str, int | str | bool | float]:
    return {
        "base": options.base,
        "groups": options.groups,
        "chunk_rows": options.chunk_rows,
        "use_bias": options.use_bias,
        "rounding": options.rounding,
        "first_rows": options.first_rows,
        "ranges": options.ranges,
        "quantile": options.quantile,
        "candidates": options.candidates,
        "rotation": options.rotation,
    }


def _known(
    parameters: GroupedParameters, tensors: GemmTensors, groups: ChannelGroups, chunks: int
) -> Known:
    """Return what is known before the run.

    The bias is multiplied with the quantized weights: what was taken from X is to come back through
    the same weights.
    """
    x = tensors.a
    weights = stored_weights(parameters, tensors)
    if weights is None:
        weights = quantized_weights(tensors.b, parameters.weight_bits, parameters.weight_scale)
    known = {"x": x, "w_codes": weights.codes, **_ranges(groups, weights, chunks)}
    if groups.options.use_bias:
        products = row_products(groups.bias[:chunks].astype(np.float64), weights.codes)
        known["x_bias"] = groups.bias[:chunks]
        known["bias"] = (products * weights.scale).astype(np.float32)
    if parameters.input == "quantized":
        known |= dict(
            _coded_runs(x, groups, parameters.run) if parameters.run else _coded(x, groups)
        )
    return known


def _ranges(groups: ChannelGroups, weights: Quantized, chunks: int) -> Known:
    """Return what makes codes of X, and values of sums, whose unit is that of the last group."""
    last = 2.0 ** (1 - groups.options.groups)
    if groups.options.base == "row":
        factors = np.stack([groups.channel_factors(chunk) for chunk in range(chunks)])
        scale = column_scales(weights, np.full((chunks, 1), last))
        return {"x_factor": factors, "x_worth": reciprocal(factors), "scale": scale}
    steps = np.stack([groups.channel_scales(chunk) for chunk in range(chunks)])
    scale = column_scales(weights, groups.scale[:chunks, None] * last)
    return {"x_reciprocal": reciprocal(steps), "scale": scale}


def _coded_runs(x: Values, groups: ChannelGroups, run: int) -> Known:
    """Return X as attention stores it: codes, and the scales of group 0 of every run of a row."""
    check_finite(x)
    parts = [
        coded_runs((x[start:stop] - groups.bias[chunk]) * groups.channel_factors(chunk), run)
        for chunk, start, stop in groups.spans(len(x))
    ]
    scale = np.concatenate([own.scale for own in parts]).astype(np.float32)
    return {"x_codes": np.concatenate([own.codes for own in parts]), "x_scale": scale}


def _coded(x: Values, groups: ChannelGroups) -> Known:
    """Return X as its producer stores it: codes and, if rows find it, the scale of group 0."""
    parts = [(span, groups.quantize(x, span)) for span in groups.spans(len(x))]
    known = {"x_codes": np.concatenate([own.codes for _, own in parts])}
    if groups.options.base == "row":
        scales = [own.scale[:, :1] * groups.channel_factors(span.chunk)[0] for span, own in parts]
        known["x_scale"] = np.concatenate(scales).astype(np.float32)
    return known
