"""The masks that score blocks from Q and K, by name."""

from collections.abc import Callable, Mapping

from accelsim.kernels.attention.masks.antidiagonal import antidiagonal_mask
from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.gate import gate_mask
from accelsim.kernels.attention.masks.indexer import indexer_mask
from accelsim.kernels.attention.masks.pooled import pooled_mask

SCORED_MASKS: Mapping[str, Callable[[Setting], ScoredMask]] = {
    "pooled": pooled_mask,
    "antidiagonal": antidiagonal_mask,
    "indexer": indexer_mask,
    "gate": gate_mask,
}
