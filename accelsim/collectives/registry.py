"""The algorithms by name."""

from collections.abc import Mapping

from accelsim.collectives.algorithms import (
    direct,
    halving_doubling,
    in_switch,
    one_shot,
    ring,
    tree,
    two_shot,
)
from accelsim.collectives.base import Algorithm
from accelsim.hardware.links import AlgorithmName

_MODULES = (ring, tree, halving_doubling, one_shot, two_shot, in_switch, direct)
ALGORITHMS: Mapping[AlgorithmName, Algorithm] = {
    each.ALGORITHM.name: each.ALGORITHM for each in _MODULES
}
