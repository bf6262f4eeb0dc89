"""Kernels as the linears of a real model, in numbers and in costs.

One machine has a cube for floating point and an integer array beside it, so that all kernels run on
it. A window takes a minute or two a kernel, which is why most read one window only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from accelsim import Recipe, evaluate
from accelsim.library.kernels import Kernels
from accelsim.quality.passages import Reading

MACHINE = "ascend-910b-no-l2"
ARRAY = {
    "machine.int_mac": "{rows: 64, cols: 64, pipeline_depth_cycles: 2, index_buffer: 64 KiB}",
}
WINDOW = 1024


class KernelPoint(NamedTuple):
    """One row of the table."""

    label: str
    kernel: str
    parameters: dict[str, Any]
    calibration: str | None
    """Name of the file that the kernel needs."""
    windows: int = 1


FOUR = {"activation_bits": 4, "weight_bits": 4}
GROUPS, FOUR_GROUPS = "best rounding", "4 bits, 8 windows, best rounding"


def points() -> Iterator[KernelPoint]:
    """Yield the kernels, those in 16 bits first."""
    yield KernelPoint("FP16 on the cube", "gemm", {}, None)
    yield KernelPoint("weight-only W4", "weight_only", {}, None)
    yield KernelPoint("groups, shifts", "tender", {}, GROUPS, windows=4)
    yield KernelPoint("groups, explicit", "requantized", {}, GROUPS)
    tensor = {"activation_scale": "tensor", "weight_scale": "tensor"}
    yield KernelPoint("per tensor, static", "quantized", tensor, GROUPS)
    yield KernelPoint("per row", "quantized", {}, None)
    yield KernelPoint("SmoothQuant", "smoothquant", {}, GROUPS)
    yield KernelPoint("3 % outliers in FP16", "outlier_split", {}, GROUPS)
    yield KernelPoint("groups, shifts, W4A4", "tender", FOUR, FOUR_GROUPS)
    yield KernelPoint("3 % outliers in FP16, W4A4", "outlier_split", FOUR, FOUR_GROUPS)


def row_of(point: KernelPoint, folder: Path) -> dict[str, Any]:
    """Run the model with a kernel; calibrations lie in `folder`."""
    recipe = Recipe(point.kernel, **point.parameters)
    if point.calibration is not None:
        recipe = recipe.updated({"calibration": folder / f"{point.calibration}.safetensors"})
    tokens = point.windows * WINDOW
    report = evaluate(
        "smollm2", Kernels(linear=recipe), ARRAY, MACHINE, Reading(tokens=tokens, window=WINDOW)
    )
    cost = report.linears
    return {
        "label": point.label,
        "kernel": point.kernel,
        "tokens": tokens,
        "perplexity_change": report.perplexity_change.value,
        "nll_change": report.nll_change.value,
        "nll_change_se": report.nll_change.se,
        "cycles_per_token": cost.cycles / tokens,
        "hbm_bytes_per_token": (cost.hbm_read_bytes + cost.hbm_write_bytes) / tokens,
        "energy_j_per_token": cost.energy_j / tokens,
        "bound_by": cost.bound_by,
    }
