"""What each scheme computes, stated in float64: the results that kernels are compared with.

x [rows, k] and w [k, n] are the values at hand in the HBM; results are [rows, n]. Integer products
are exact in float64 (sums of 2^53 / 2^14 products at least), so only the scaling rounds.
"""

import numpy as np
from numpy.typing import NDArray

from accelsim.quantization.channel_groups import ChannelGroups
from accelsim.quantization.codes import Codes, Quantized, Values
from accelsim.quantization.schemes import per_column, per_row

Result = NDArray[np.float64]


def scaled_product(x: Quantized, w: Quantized) -> Result:
    """Return the product of what both operands stand for, whatever shares a scale in each."""
    return x.values @ w.values


def grouped_product(x: Values, w: Quantized, groups: ChannelGroups) -> Result:
    """Return the product of x in channel groups with w, plus bias x w in high precision.

    The bias is multiplied with the *quantized* weights: what was taken from x is to come back
    through the same weights. `w.scale` must not depend on k.
    """
    parts = []
    for span in groups.spans(len(x)):
        rows = groups.encode(x, span) * groups.channel_scales(span.chunk)
        parts.append(rows @ w.values + groups.bias[span.chunk].astype(np.float64) @ w.values)
    return np.concatenate(parts)


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

    The others have scales per row of x and column of w, taken without the outliers. Source:
    LLM.int8(), arXiv 2208.07339, equation 8.
    """
    others = np.delete(np.arange(x.shape[1]), outliers)
    kept = x[:, outliers].astype(np.float64) @ w[outliers].astype(np.float64)
    if not len(others):
        return kept
    return kept + scaled_product(per_row(x[:, others], bits), per_column(w[others], bits))
