"""The linears of a model by the float64 statement of each scheme, as hooks of the forward pass.

A kernel computes the same with the roundings of its machine; the statements also say what no kernel
offers, such as a bias through weights that are not quantized.
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
from accelsim.quantization.statements import (
    grouped_product,
    migrated_product,
    scaled_product,
    split_product,
)
from accelsim.workload.model.forward import LinearHook
from accelsim.workload.model.language import LanguageModel
from accelsim.workload.model.llama import Array
from accelsim.workload.tensors import GemmTensors

Product = Callable[[Array, Array, Quantized | None, ChannelGroups], Any]
"""(x [rows, k], w [k, n], w quantized, calibration of x) -> [rows, n]"""

WEIGHTS = {"tensor": per_tensor, "column": per_column, "rows of 128": per_row_group}


class Linears:
    """All linears of a model by one scheme after the other; keeps the weights of the last one."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._quantized = lru_cache(maxsize=7 * model.weights.config.layers)(self._quantize)

    def by(
        self, product: Product, weights: str | None, bits: int, calibration: Calibration
    ) -> LinearHook:
        """Return the hook of a scheme whose weights have one scale per `weights`."""

        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            w = weight.T
            tensors = GemmTensors(x, w, f"layer{layer}.{name}", self._model.name)
            quantized = None if weights is None else self._quantized(layer, name, weights, bits)
            result = product(x, w, quantized, calibration.groups_of(tensors))
            return result.astype(np.float32)

        return linear

    def _quantize(self, layer: int, name: str, weights: str, bits: int) -> Quantized:
        return WEIGHTS[weights](self._model.weights.layers[layer].linears[name].T, bits)


def plain(x: Array, w: Array, quantized: Quantized | None, groups: ChannelGroups) -> Any:
    """Weights in integers, activations as they are."""
    return x @ w if quantized is None else x @ quantized.values


def grouped(x: Array, w: Array, quantized: Quantized | None, groups: ChannelGroups) -> Any:
    """Channel groups, with quantized weights or, to see what activations alone lose, without."""
    return grouped_product(x, quantized or exact(w), groups)


def grouped_with_plain_bias(x: Array, w: Array, quantized: Quantized, groups: ChannelGroups) -> Any:
    """Channel groups whose bias comes back through weights that are not quantized."""
    result = grouped_product(x, quantized, groups)
    lost = w - quantized.values
    for span in groups.spans(len(x)):
        result[span.start : span.stop] += groups.bias[span.chunk] @ lost
    return result


def exact(w: Array) -> Quantized:
    """Weights that stand for themselves."""
    return Quantized(w, np.ones((1, 1)))


def activations(quantizer: Callable[[Array, int, ChannelGroups], Quantized], bits: int) -> Product:
    """Scales of the activations by `quantizer`."""

    def product(x: Array, w: Array, quantized: Quantized | None, groups: ChannelGroups) -> Any:
        return scaled_product(quantizer(x, bits, groups), quantized or exact(w))

    return product


def static_tensor(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale, calibrated."""
    return per_tensor(x, bits, float(groups.channel_peaks.max()))


def dynamic_tensor(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale of the window at hand."""
    return per_tensor(x, bits)


def dynamic_row(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale a row of the window at hand."""
    return per_row(x, bits)


def static_channel(x: Array, bits: int, groups: ChannelGroups) -> Quantized:
    """One scale a channel, calibrated: no integer array can add such products."""
    return per_column(x, bits, groups.channel_peaks)


def migrated(bits: int, strength: float) -> Product:
    """SmoothQuant."""

    def product(x: Array, w: Array, quantized: Quantized | None, groups: ChannelGroups) -> Any:
        factors = migration_factors(groups.channel_peaks, w, strength)
        return migrated_product(x, w, factors, bits)

    return product


def split_by_magnitude(bits: int) -> Product:
    """LLM.int8(): channels with values of 6 or more stay as they are."""

    def product(x: Array, w: Array, quantized: Quantized | None, groups: ChannelGroups) -> Any:
        return split_product(x, w, channels_above(np.abs(x).max(0)), bits)

    return product


def split_by_share(bits: int, share: float) -> Product:
    """As OLAccel, a fixed share of the channels, those of the largest calibrated peaks."""

    def product(x: Array, w: Array, quantized: Quantized | None, groups: ChannelGroups) -> Any:
        return split_product(x, w, top_channels(groups.channel_peaks, share), bits)

    return product
