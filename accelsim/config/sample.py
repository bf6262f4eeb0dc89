"""How much of a program is scheduled: what the command line, files and Python say alike."""

import math
from typing import Any, Literal

from accelsim.errors import SampleError

Sample = Literal["auto", "never"] | float
"""Whether a sample stands for a program: where that saves much, or not; or the share of its ops."""
ALLOWED = "auto, never, or the share of the ops to schedule, above 0 and at most 1, such as 0.05"


def checked_sample(value: Any) -> Sample:
    """Return what is asked for, which may be text; raises SampleError."""
    if value in ("auto", "never"):
        return "auto" if value == "auto" else "never"
    try:
        share = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:
        raise SampleError(f"sample: found {value}, allowed: {ALLOWED}")
    return share
