"""The interface of the HBM on the die: how many channels stand there."""

from math import ceil

from accelsim.hardware.hbm import BankedHbmSpec, HbmSpec
from accelsim.hardware.technology import TechnologySpec

_DECIMALS = 9
"""Of a quotient of two rates, which are rounded as text becomes numbers."""


def interface_channels(hbm: HbmSpec, technology: TechnologySpec) -> int:
    """Return the channels that the machine has, or those that its rate needs, if these are more.

    A banked memory has the pins of its standard, whose rate it has. Raises UnknownNameError for a
    memory standard without costs.
    """
    most = technology.memory(hbm.technology_key).channel_bandwidth
    if most is None or isinstance(hbm, BankedHbmSpec):
        return hbm.channels
    return max(hbm.channels, ceil(round(hbm.bandwidth / most.value, _DECIMALS)))
