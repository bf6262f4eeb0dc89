"""The linears of a model with operands replaced by what their codes stand for.

A hook computes x w^T in FP32 of such operands: the sums are those of a scheme up to the rounding of
FP32, while a kernel adds the roundings of its machine. Also possible here is what no kernel offers,
such as a bias through weights that are not quantized.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from accelsim.quantization.calibration import Calibration
from accelsim.quantization.channel_groups import ChannelGroups
from accelsim.quantization.codes import Quantized
from accelsim.quantization.schemes import (
    channels_above,
    migration_factors,
    per_column,
    per_row,
    per_row_group,
    per_tensor,
    top_channels,
)
from accelsim.quantization.statements import grouped_values, split_values
from accelsim.workload.model.forward import LinearHook
from accelsim.workload.model.language import LanguageModel
from accelsim.workload.model.llama import Array
from accelsim.workload.tensors import GemmTensors

Operands = Callable[[Array, Array, Array, ChannelGroups], tuple[Any, Any]]
"""(x [rows, k], w [k, n], w in codes, calibration of x) -> the operands to multiply"""

WEIGHTS = {"tensor": per_tensor, "column": per_column, "rows of 128": per_row_group}


class Linears:
    """All linears of a model by one scheme after the other; keeps the weights of the last one."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._coded = lru_cache(maxsize=7 * model.weights.config.layers)(self._code)

    def by(
        self, operands: Operands, weights: str | None, bits: int, calibration: Calibration
    ) -> LinearHook:
        """Return the hook of a scheme whose weights have one scale per `weights`."""

        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            w = weight.T
            tensors = GemmTensors(x, w, f"layer{layer}.{name}", self._model.name)
            coded = w if weights is None else self._coded(layer, name, weights, bits)
            left, right = operands(x, w, coded, calibration.groups_of(tensors))
            return left.astype(np.float32) @ right.astype(np.float32, copy=False)

        return linear

    def _code(self, layer: int, name: str, weights: str, bits: int) -> Array:
        weight = self._model.weights.layers[layer].linears[name]
        return WEIGHTS[weights](weight.T, bits).values.astype(np.float32)


def as_they_are(x: Array, w: Array, coded: Array, groups: ChannelGroups) -> tuple[Any, Any]:
    """Activations in floating point."""
    return x, coded


def grouped(x: Array, w: Array, coded: Array, groups: ChannelGroups) -> tuple[Any, Any]:
    """Channel groups."""
    return grouped_values(x, groups), coded


def grouped_with_plain_bias(
    x: Array, w: Array, coded: Array, groups: ChannelGroups
) -> tuple[Any, Any]:
    """Channel groups whose bias comes back through weights that are not quantized."""
    bias = np.empty_like(x)
    for span in groups.spans(len(x)):
        bias[span.start : span.stop] = groups.bias[span.chunk]
    return np.hstack([grouped_values(x, groups) - bias, bias]), np.vstack([coded, w])


def activations(quantizer: Callable[[Array, int, ChannelGroups], Quantized], bits: int) -> Operands:
    """Scales of the activations by `quantizer`."""

    def operands(x: Array, w: Array, coded: Array, groups: ChannelGroups) -> tuple[Any, Any]:
        return quantizer(x, bits, groups).values, coded

    return operands


def static_tensor(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale, calibrated."""
    return per_tensor(x, bits, float(groups.channel_peaks.max()))


def dynamic_tensor(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale, of the window at hand."""
    return per_tensor(x, bits)


def dynamic_row(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale a row."""
    return per_row(x, bits)


def static_channel(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale a channel, calibrated: no integer array can add such products."""
    return per_column(x, bits, groups.channel_peaks)


def migrated(bits: int, strength: float) -> Operands:
    """SmoothQuant, then one scale a row and a column."""

    def operands(x: Array, w: Array, coded: Array, groups: ChannelGroups) -> tuple[Any, Any]:
        factors = migration_factors(groups.channel_peaks, w, strength)
        return per_row(x / factors, bits).values, per_column(w * factors[:, None], bits).values

    return operands


def split_by_magnitude(bits: int) -> Operands:
    """LLM.int8(): channels with values of 6 or more in the window stay as they are."""

    def operands(x: Array, w: Array, coded: Array, groups: ChannelGroups) -> tuple[Any, Any]:
        return split_values(x, w, channels_above(np.abs(x).max(0)), bits)

    return operands


def split_by_share(bits: int, share: float) -> Operands:
    """As OLAccel, a fixed share of the channels, those of the largest calibrated peaks."""

    def operands(x: Array, w: Array, coded: Array, groups: ChannelGroups) -> tuple[Any, Any]:
        return split_values(x, w, top_channels(groups.channel_peaks, share), bits)

    return operands
