"""What each scheme computes, stated in float64: the results that kernels are compared with.

x [rows, k] and w [k, n] are the values at hand in the HBM; results are [rows, n]. Integer products
are exact in float64 (sums of 2^53 / 2^14 products at least), so only the scaling rounds.
"""

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.blocks import Blocks
from accelsim.quantization.channel_groups import ChannelGroups
from accelsim.quantization.codes import Codes, Quantized, Values
from accelsim.quantization.schemes import per_column, per_row

Result = NDArray[np.float64]


def scaled_product(x: Quantized | Blocks, w: Quantized | Blocks) -> Result:
    """Return the product of what both operands stand for, whatever shares a scale in each."""
    return x.values @ w.values


def grouped_product(x: Values, w: Quantized, groups: ChannelGroups) -> Result:
    """Return the product of x in channel groups with w.

    The bias of x is multiplied with the *quantized* weights: what was taken from x comes back
    through the weights that the rest of x meets.
    """
    return grouped_values(x, groups) @ w.values


def grouped_values(x: Values, groups: ChannelGroups) -> Result:
    """Return what the codes of x in channel groups stand for, the bias added back [rows, k]."""
    values = np.empty(x.shape)
    for span in groups.spans(len(x)):
        values[span.start : span.stop] = groups.quantize(x, span).values + groups.bias[span.chunk]
    return values


def shifted_sums(
    codes: Codes, w_codes: Codes, group: NDArray[np.uint8], groups: int
) -> NDArray[np.int64]:
    """Return sum_g 2^(groups - 1 - g) x_g w_g as int64 [rows, n], one shift after every group.

    codes [rows, k], w_codes [k, n], group [k]. Groups without channels shift too.
    """
    total = np.zeros((len(codes), w_codes.shape[1]), np.int64)
    for index in range(groups):
        members = group == index
        total = 2 * total + codes[:, members].astype(np.int64) @ w_codes[members].astype(np.int64)
    return total


def migrated_product(x: Values, w: Values, factors: Values, bits: int) -> Result:
    """Return SmoothQuant's product: outliers moved from x to w, then scales per row and column.

    factors [k] come from `migration_factors`.
    """
    return scaled_product(per_row(x / factors, bits), per_column(w * factors[:, None], bits))


def split_product(x: Values, w: Values, outliers: NDArray[np.int32], bits: int) -> Result:
    """Return the product of the outlier channels as they are, plus that of all others in integers.

    Source: LLM.int8(), arXiv 2208.07339, equation 8.
    """
    left, right = split_values(x, w, outliers, bits)
    return left @ right


def split_values(
    x: Values, w: Values, outliers: NDArray[np.int32], bits: int
) -> tuple[Result, Result]:
    """Return x and w, all channels but the outliers replaced by what their codes stand for.

    Scales are those per row of x and column of w without the outliers.
    """
    left, right = x.astype(np.float64), w.astype(np.float64)
    others = np.delete(np.arange(x.shape[1]), outliers)
    if len(others):
        left[:, others] = per_row(x[:, others], bits).values
        right[others] = per_column(w[others], bits).values
    return left, right
