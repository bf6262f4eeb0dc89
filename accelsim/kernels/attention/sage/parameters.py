"""Parameters of SageAttention."""

from typing import Literal

from accelsim.kernels import language as al

Granularity = Literal["block", "thread", "token"]
"""What shares a scale. block: the rows of a tile; thread: the rows that one thread of a tensor core
holds, every 8th of 32 queries and every 8th pair of keys; token: nothing, each row has its own."""


class SageParameters(al.Spec):
    """Choices of the sage kernel."""

    qk: Literal["int8", "int4"] = "int8"
    """Format of the codes of Q and K; version 2 of SageAttention has int4."""
    pv: Literal["fp16", "fp8"] = "fp16"
    """Format of weights and values: fp16 in version 1, fp8 (E4M3) in version 2."""
    accumulate: Literal["fp32", "fp16"] = "fp32"
    """Format in which the product of weights and values of a key tile leaves the cube, which sums
    in FP32 either way."""
    granularity: Granularity = "block"
    """What shares a scale of Q, and of K: block (version 1), thread (version 2) or token."""
    smoothing: Literal["k", "none"] = "k"
    """Whether K is coded without its mean over all tokens."""
    shift: Literal["once", "cached"] = "once"
    """Where K (and V in FP8) becomes codes: once per KV head, or before, in the KV cache."""
    tile_q: al.Size | None = None
    """Query rows of a tile, in elements; absent: the most that fit, up to 128."""
    tile_k: al.Size | None = None
    """Key and value rows of a tile, in elements; absent: the most that fit, up to 64."""

    @property
    def code_format(self) -> al.Format:
        """Format of the codes of Q and K."""
        return al.Format(self.qk)

    @property
    def weight_format(self) -> al.Format:
        """Format of weights and values as the cube takes them."""
        return al.Format.FP16 if self.pv == "fp16" else al.Format.FP8_E4M3

    @property
    def product_format(self) -> al.Format:
        """Format in which the product of weights and values of a key tile leaves the cube."""
        return al.Format(self.accumulate)
