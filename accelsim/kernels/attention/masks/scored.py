"""The masks that score blocks from Q and K, by name."""

from collections.abc import Mapping

from accelsim.kernels.attention.masks.antidiagonal import AntidiagonalMask
from accelsim.kernels.attention.masks.base import ScoredMask
from accelsim.kernels.attention.masks.gate import GateMask
from accelsim.kernels.attention.masks.indexer import IndexerMask
from accelsim.kernels.attention.masks.pooled import PooledMask

SCORED_MASKS: Mapping[str, type[ScoredMask]] = {
    "pooled": PooledMask,
    "antidiagonal": AntidiagonalMask,
    "indexer": IndexerMask,
    "gate": GateMask,
}
