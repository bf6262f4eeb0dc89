"""The time of equal micro-batches that go through the stages of a pipeline one after the other.

A stage has one micro-batch at a time, and a micro-batch is in one stage at a time. What is computed
once runs empty at its begin and end (GPipe, Huang et al., 2019, arXiv 1811.06965, section 2.3):
with m micro-batches and p equal stages the share (p - 1) / (m + p - 1) of the time is a bubble.
Where each micro-batch begins anew as soon as it is through, as in the decode steps of a generation,
the stages stay as full as there are micro-batches.
"""

from collections.abc import Sequence


def drained_s(stage_s: Sequence[float], microbatches: int) -> float:
    """Return the time until all micro-batches are through; the pipeline was empty before.

    stage_s: times of a micro-batch in each stage. The slowest stage has one after the other.
    """
    return sum(stage_s) + (microbatches - 1) * max(stage_s)


def repeated_s(stage_s: Sequence[float], microbatches: int) -> float:
    """Return the mean time from a micro-batch that is through to the next time that it is.

    It is the way through all stages, or that of all micro-batches through the slowest one.
    """
    return max(sum(stage_s), microbatches * max(stage_s))
