"""How evenly the rows of a matrix lie on the channels of a banked HBM, by its mapping."""

import math
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.mapping import bank_and_row, digit_table
from accelsim.kernels.estimate.memo import remembered

_MOST_ROWS = 1024
"""Rows that are looked at; what they show, the others repeat."""
_CHANNEL = ("channel", "pseudo_channel")


class RowPlaces(NamedTuple):
    """Where the rows of a matrix lie, in pieces as long as the bytes that one channel has."""

    loads: npt.NDArray[np.float64]
    """[pieces + 1, channels]: in the first 0, 1, ... pieces of all rows."""
    piece_bytes: int

    @property
    def reach(self) -> float:
        """Share of the channels that have a part of some columns, be they as few as they may."""
        return float((self.loads[1] > 0).mean())

    def evenness(self, widths_bytes: Any) -> Any:
        """Return the mean load of a channel over that of the busiest.

        Of each row the first `widths_bytes` are loaded. A power of two as the pitch of rows leaves
        channels without work where not all of a row is loaded.
        """
        last = len(self.loads) - 1
        pieces = np.minimum(widths_bytes / self.piece_bytes, last)
        below = np.minimum(np.floor(pieces), last - 1).astype(np.int64)
        part = (pieces - below)[..., None]
        own = self.loads[below] * (1 - part) + self.loads[below + 1] * part
        return own.mean(-1) / own.max(-1)


def piece_bytes(hbm: BankedHbmSpec) -> int:
    """Return the bytes in a row that lie in one channel before the next one follows."""
    below = takewhile(lambda digit: digit.field not in _CHANNEL, hbm.digits)
    return hbm.dram.shape.burst * math.prod(digit.size for digit in below)


@remembered
def places_of_rows(hbm: BankedHbmSpec, rows: int, pitch_bytes: float) -> RowPlaces:
    """Return where rows lie that begin `pitch_bytes` apart."""
    shape = hbm.dram.shape
    piece = piece_bytes(hbm)
    pieces = max(1, round(pitch_bytes / piece))
    begins = np.arange(min(rows, _MOST_ROWS))[:, None] * int(pitch_bytes)
    middles = begins + np.arange(pieces) * piece + piece // 2
    bank, _ = bank_and_row(digit_table(hbm.digits, shape, hbm.hashed), middles // shape.burst)
    channel = bank // (shape.banks * shape.bank_groups * shape.ranks)
    channels = hbm.channels * shape.pseudo_channels
    place = np.arange(pieces) * channels + channel
    found = np.bincount(place.ravel(), minlength=pieces * channels).reshape(pieces, channels)
    return RowPlaces(np.concatenate([np.zeros((1, channels)), found.cumsum(0)]), piece)
