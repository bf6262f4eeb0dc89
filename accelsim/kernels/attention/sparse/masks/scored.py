"""The masks that score blocks from Q and K, by name."""

from collections.abc import Callable, Mapping

from accelsim.kernels.attention.sparse.masks.antidiagonal import antidiagonal_mask
from accelsim.kernels.attention.sparse.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.sparse.masks.gate import gate_mask
from accelsim.kernels.attention.sparse.masks.indexer import indexer_mask
from accelsim.kernels.attention.sparse.masks.pooled import pooled_mask

SCORED_MASKS: Mapping[str, Callable[[Setting], ScoredMask]] = {
    "pooled": pooled_mask,
    "antidiagonal": antidiagonal_mask,
    "indexer": indexer_mask,
    "gate": gate_mask,
}
