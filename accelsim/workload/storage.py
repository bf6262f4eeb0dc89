"""Values as HBM stores them: how tensors enter a problem."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import WorkloadError
from accelsim.numerics.formats import Format


def stored_values(values: NDArray[Any], dtype: Format) -> NDArray[Any]:
    """Return `values` as `dtype` holds them, in an array wide enough to compute with.

    Float formats: float32, rounded to nearest even; beyond the largest number infinity, or for FP8,
    which saturates, that number. Integer formats: int32, see `quantize`.
    """
    if dtype.is_integer:
        return quantize(values, dtype)
    if dtype.is_fp8:
        values = np.clip(values, -dtype.layout.largest, dtype.layout.largest)
    return _cast(values, dtype)


def count_beyond(values: NDArray[Any], dtype: Format) -> int:
    """Return how many of `values` would round beyond the largest number of a float format.

    FP8, which saturates, cannot hold infinity either.
    """
    is_asked = ~np.isnan(values) if dtype.is_fp8 else np.isfinite(values)
    return int(np.count_nonzero(is_asked & ~np.isfinite(_cast(values, dtype))))


def _cast(values: NDArray[Any], dtype: Format) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(_stored_type(dtype)).astype(np.float32)


def quantize(values: NDArray[Any], dtype: Format) -> NDArray[np.int32]:
    """Return symmetric per-tensor codes: rint(values / scale), scale = max|values| / largest code.

    Integers are codes already and stay as they are. Raises WorkloadError for integers that the
    format cannot hold and for values that are not finite.
    """
    if values.dtype.kind in "iu":
        return _checked_codes(values, dtype)
    peak = float(np.abs(values).max())
    if not np.isfinite(peak):
        raise WorkloadError(f"found values that are not finite, which {dtype} cannot hold")
    scale = peak / int(dtype.layout.largest)
    return np.rint(values / scale if scale else values).astype(np.int32)


def _checked_codes(values: NDArray[Any], dtype: Format) -> NDArray[np.int32]:
    low, high = int(values.min()), int(values.max())
    largest = int(dtype.layout.largest)
    if low < -largest - 1 or high > largest:
        raise WorkloadError(
            f"found integers from {low} to {high}, allowed for {dtype}: {-largest - 1} to {largest}"
        )
    return values.astype(np.int32)


def _stored_type(dtype: Format) -> Any:
    import ml_dtypes

    return {
        Format.FP32: np.float32,
        Format.FP16: np.float16,
        Format.BF16: ml_dtypes.bfloat16,
        Format.FP8_E4M3: ml_dtypes.float8_e4m3fn,
        Format.FP8_E5M2: ml_dtypes.float8_e5m2,
    }[dtype]
