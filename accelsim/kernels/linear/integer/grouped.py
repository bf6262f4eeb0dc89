"""What kernels over channel groups share: calibration, groups of channels, numbers."""

from collections.abc import Callable
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
)
from accelsim.kernels.linear.integer.scheme import Plan, Scheme, Work
from accelsim.kernels.linear.integer.tiles import panel_sizes
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions
from accelsim.quantization.codes import reciprocal
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

    drains: the sums of every group leave the array; if not, it doubles them between two groups.
    """
    known: Known = {}
    group: NDArray[Any]
    if tensors is None:
        options = group_options(parameters)
        spans = spans_of(options.chunk_starts(problem.m), problem.m)
        group = even_groups(options.groups, problem.k, len(spans))
    else:
        check_activations(tensors)
        groups = input_groups(parameters, tensors)
        options, spans = groups.options, list(groups.spans(problem.m))
        group, known = groups.group[: len(spans)], _known(parameters, tensors, groups, len(spans))
    sizes = panel_sizes(problem, parameters).tolist()
    work = Work(drains=products_of(group, sizes)) if drains else Work(shifts=options.groups - 1)
    # The scale of the output is that of the last group.
    worth = 2.0 ** np.arange(options.groups)[::-1]
    used = np.mean([len(np.unique(own)) for own in group])
    return Plan(
        problem,
        Scheme(spans, work, has_bias=options.use_bias),
        known,
        product,
        group,
        factors=np.tile(worth, (len(spans), 1)),
        chosen=_chosen(options),
        statistics={"groups_used": float(used)},
    )


def _chosen(options: GroupOptions) -> dict[str, int | str | bool]:
    return {
        "groups": options.groups,
        "chunk_rows": options.chunk_rows,
        "use_bias": options.use_bias,
        "rounding": options.rounding,
        "first_rows": options.first_rows,
    }


def _known(
    parameters: GroupedParameters, tensors: GemmTensors, groups: ChannelGroups, chunks: int
) -> Known:
    """Return what is known before the run.

    The bias is multiplied with the quantized weights: what was taken from X is to come back through
    the same weights.
    """
    x = tensors.a
    weights = quantized_weights(tensors.b, parameters.weight_bits, parameters.weight_scale)
    steps = np.stack([groups.channel_scales(chunk) for chunk in range(chunks)])
    last = groups.scale[:chunks, None] * 2.0 ** (1 - groups.options.groups)
    known = {
        "x": x,
        "x_reciprocal": reciprocal(steps),
        "w_codes": weights.codes,
        "scale": column_scales(weights, last),
    }
    if groups.options.use_bias:
        products = row_products(groups.bias[:chunks].astype(np.float64), weights.codes)
        known["x_bias"] = groups.bias[:chunks]
        known["bias"] = (products * weights.scale).astype(np.float32)
    if parameters.input == "quantized":
        known["x_codes"] = np.concatenate([groups.encode(x, span) for span in groups.spans(len(x))])
    return known
