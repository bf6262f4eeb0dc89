"""Rotary embedding (RoPE, arXiv 2104.09864): how far pairs of elements turn, and turning them."""

from collections.abc import Sequence
from math import pi

import numpy as np
from numpy.typing import NDArray

Frequencies = NDArray[np.float64]
"""[head_dim / 2], radians from one position to the next."""
Rotation = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Cosines and sines [tokens, head_dim / 2]."""


def rope_frequencies(head_dim: int, base: float) -> Frequencies:
    """Return the frequencies of a head, base^(-2 i / head_dim)."""
    half = head_dim // 2
    return np.asarray(base ** (-np.arange(half) / half))


def stretched_by_parts(
    frequencies: Frequencies, factor: float, low: float, high: float, context: float
) -> Frequencies:
    """Return the frequencies of Llama 3.1, which reads more tokens than the `context` of Llama 3.

    A pair that turns at least `high` times over `context` tokens keeps its frequency, one that
    turns at most `low` times gets 1 / factor of it, those between a mixture. Source: arXiv
    2407.21783 names the base only; the rule is that of its published code, `apply_scaling`.
    """
    turns = context * frequencies / (2 * pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(frequencies * (kept + (1 - kept) / factor))


def rotations(tokens: int, frequencies: Sequence[Frequencies], first: int = 0) -> list[Rotation]:
    """Return the rotation of each layer, for `tokens` positions from `first` on.

    Layers of the same frequencies share one.
    """
    made: dict[int, Rotation] = {}
    for each in frequencies:
        if id(each) not in made:
            angles = np.outer(np.arange(first, first + tokens), each)
            made[id(each)] = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return [made[id(each)] for each in frequencies]


def rotate(x: NDArray[np.float32], rotation: Rotation) -> NDArray[np.float32]:
    """Return x [heads, tokens, head_dim] with element i and i + head_dim / 2 rotated as a pair."""
    cosines, sines = rotation
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate(
        (first * cosines - second * sines, second * cosines + first * sines), axis=-1
    )
