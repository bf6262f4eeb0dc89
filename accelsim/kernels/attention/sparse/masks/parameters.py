"""The parameters of the sparse kernel: which blocks to keep, and how to find them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from accelsim.config.spec import Seed
from accelsim.kernels import language as al
from accelsim.kernels.attention.precision import Precision

Share = Annotated[float, Field(ge=0, le=1)]
IndexFormat = Literal[al.Format.FP8_E4M3, al.Format.FP8_E5M2, al.Format.BF16, al.Format.FP16]


_SCORED = ("pooled", "antidiagonal", "indexer", "gate")
MASKS_WITH: Mapping[str, tuple[str, ...]] = {
    "window": ("window", "sinks_window", "dilated"),
    "sinks": ("sinks_window",),
    "dilation": ("dilated",),
    "path": ("file",),
    "select": _SCORED,
    "coverage": _SCORED,
    "threshold": _SCORED,
    "budget": _SCORED,
    "fallback_below": _SCORED,
    "stride": ("antidiagonal",),
    "index_dim": ("indexer",),
    "index_format": ("indexer",),
    "index_seed": ("indexer",),
    "weights": ("indexer", "gate"),
    "weights_prefix": ("indexer", "gate"),
    "gate_dim": ("gate",),
    "assumed_density": _SCORED,
}
"""Parameter -> the masks that have it; what is not named, all have."""


class SparseParameters(al.Spec):
    """Choices of the sparse kernel; those that the chosen mask does not have may not be given."""

    mask: Literal[
        "window",
        "sinks_window",
        "dilated",
        "file",
        "pooled",
        "antidiagonal",
        "indexer",
        "gate",
    ] = "antidiagonal"
    """Which blocks to keep: fixed (window, sinks_window, dilated, file) or scored from Q and K."""
    block: al.Size | None = None
    """Rows and columns of a block, which is a tile; absent: the largest that fits, up to 64."""
    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16_fp32 for FP16
    problems, fp32_scores for others."""
    window: al.Size = 256
    """window, sinks_window, dilated: keys kept before each query row, rounded out to blocks."""
    sinks: al.Size = 4
    """sinks_window: keys kept at the beginning, rounded out to blocks."""
    dilation: al.Size = 4
    """dilated: beyond the window, one key block of so many is kept."""
    path: Path | None = None
    """file: .npz or .safetensors with array `blocks` [heads, q_blocks, k_blocks] of 0 and 1."""
    select: Literal["coverage", "threshold", "budget"] = "coverage"
    """How scored blocks are chosen, for every query block by itself."""
    coverage: Share = 0.9
    """coverage: predicted probability that the fewest most likely blocks must reach."""
    threshold: Share = 0.01
    """threshold: predicted probability from which on a block is kept."""
    budget: al.Size = 4
    """budget: most likely blocks that are kept, besides the first and the local ones."""
    fallback_below: Share = 0.0
    """Predicted coverage of the chosen blocks below which a query block keeps all of its keys."""
    stride: al.Size = 8
    """antidiagonal: tokens of a group; a divisor of the block."""
    index_dim: al.Size = 16
    """indexer: elements of an index vector."""
    index_format: IndexFormat = al.Format.FP8_E4M3
    """indexer: format of index vectors in HBM; where the cube has not this one, FP8 is multiplied
    in FP16 and others in FP32."""
    index_seed: Seed = 0
    """indexer: seed of the random projection that stands in for learned weights."""
    weights: Path | None = None
    """gate, indexer: .npz or .safetensors with learned weights; the gate needs it."""
    weights_prefix: str = ""
    """gate, indexer: what the names of the arrays in `weights` begin with."""
    gate_dim: al.Size = 32
    """gate: elements of a gate vector, as in the weights."""
    assumed_density: Share = 0.25
    """Without tensors: share of its visible blocks that a query block keeps, evenly spread."""

    @model_validator(mode="after")
    def _the_mask_has_what_is_given(self) -> "SparseParameters":
        own = [name for name in type(self).model_fields if self._has(name)]
        others = [name for name in MASKS_WITH if name in self.model_fields_set - set(own)]
        if others:
            raise ValueError(
                f"parameters of mask {self.mask}: {'; '.join(map(_of_other_masks, others))}; "
                f"allowed: {', '.join(own)}"
            )
        return self

    @model_serializer(mode="wrap")
    def _what_the_mask_has(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A report says what had an effect, and can be asked for again.
        return {name: value for name, value in fields(self).items() if self._has(name)}

    def _has(self, name: str) -> bool:
        return self.mask in MASKS_WITH.get(name, (self.mask,))


def _of_other_masks(name: str) -> str:
    *others, last = MASKS_WITH[name]
    if not others:
        return f"found {name}, which only mask {last} has"
    return f"found {name}, which only masks {', '.join(others)} and {last} have"
