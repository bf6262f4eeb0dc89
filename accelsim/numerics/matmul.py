"""Products of tiles; the conventions of `numerics.views` hold."""

from accelsim.numerics.formats import FP16
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit_inner


@jit_inner
def multiply_accumulate(
    acc: Data, a: Data, b: Data, m: int, n: int, k: int, acc_format: int, accumulate: bool
) -> None:
    """acc[m, n] (+)= a[m, k] b[k, n], summed in the order of k.

    Products of operands of up to 12 significant bits are exact in FP32. Each sum is rounded to
    FP32, and then to FP16 if that is the accumulator's format; INT32 accumulators wrap.
    """
    if acc is None:
        return
    for i in range(m):
        if not accumulate:
            for j in range(n):
                acc[i, j] = 0
        for step in range(k):
            left = a[i, step]
            for j in range(n):
                acc[i, j] += left * b[step, j]
            if acc_format == FP16:
                round_tile(acc[i : i + 1], 1, n, FP16)
