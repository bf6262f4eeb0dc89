"""The gathers of `h200_gather` measured again, in graphs of ten launches without a pause.

Of each, the number of rows a block of threads sums is the fastest of two or three.
"""

from dataclasses import replace

from accelsim.validation.h200_gather import REFERENCE as GATHER

REFERENCE = replace(
    GATHER,
    name="h200-gather-replays",
    summary="the same, replayed in graphs of ten launches",
    file="h200-gather-replays.csv",
)
