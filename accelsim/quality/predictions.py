"""What a model with kernels in it predicts, beside what the same model predicts in FP32."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.quality.estimate import Values
from accelsim.workload.model.forward import logits_of, one_blas_thread
from accelsim.workload.model.llama import Array, LlamaWeights

_ROWS = 64
"""Rows of logits at once: five arrays of rows x vocabulary x 8 bytes, 126 MB for SmolLM2."""


class Predictions(NamedTuple):
    """Of every token of a window but the first, [tokens]."""

    losses: Values
    """Negative log likelihood with the kernels, nats."""
    fp32_losses: Values
    """The same in FP32."""
    hits: Values
    """1 where the most likely token is the one that came, else 0."""
    fp32_hits: Values
    """The same in FP32."""
    agrees: Values
    """1 where the most likely token is that of FP32, else 0."""
    kl: Values
    """KL divergence of the distribution with kernels from that of FP32, nats."""
    overlap: Values
    """Probability that FP32 accepts a token drawn with the kernels: sum min(p, q), which is 1 minus
    the total variation (Leviathan et al., arXiv 2211.17192, theorem 3.5)."""

    @property
    def changes(self) -> Values:
        """Loss with the kernels minus the loss in FP32, nats."""
        return self.losses - self.fp32_losses


@one_blas_thread()
def compare_predictions(
    weights: LlamaWeights, states: Array, fp32_states: Array, targets: Sequence[int]
) -> Predictions:
    """Return what final states [tokens, hidden] predict for the tokens that came.

    Logits are made for a few rows at a time, so that memory does not grow with the window.
    """
    wanted = np.asarray(targets)
    parts = []
    for start in range(0, len(wanted), _ROWS):
        rows = slice(start, start + _ROWS)
        ours, theirs = (logits_of(weights, each[rows]) for each in (states, fp32_states))
        parts.append(compare_logits(ours, theirs, wanted[rows]))
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def compare_logits(logits: Array, fp32_logits: Array, targets: NDArray[np.int64]) -> Predictions:
    """Return what logits [tokens, vocabulary] predict, computed in float64.

    The divergence is sum p (ln p - ln q), p being FP32's. Where logits are not finite, the loss and
    the divergence are not either, and the token neither agrees nor hits nor is it accepted.
    """
    ours, theirs = _shifted(logits), _shifted(fp32_logits)
    losses, fp32_losses = (each.losses(targets) for each in (ours, theirs))
    overlap = _overlap(ours, theirs)
    greedy, fp32_greedy = (each.argmax(axis=1) for each in (logits, fp32_logits))
    known = np.isfinite(losses)
    matches = (known & (greedy == targets), fp32_greedy == targets, known & (greedy == fp32_greedy))
    hits, fp32_hits, agrees = (each.astype(np.float64) for each in matches)
    difference = np.subtract(theirs.logits, ours.logits, out=ours.logits)
    mean = np.einsum("ij,ij->i", theirs.weights, difference) / theirs.total
    # Not below zero but for rounding, of differences near zero to 1e-16.
    kl = np.maximum(mean + np.log(ours.total) - np.log(theirs.total), 0)
    return Predictions(losses, fp32_losses, hits, fp32_hits, agrees, kl, overlap)


class _Shifted(NamedTuple):
    """Logits below their largest, their exponentials and the sums of these; float64."""

    logits: Values
    weights: Values
    total: Values

    def losses(self, targets: NDArray[np.int64]) -> Values:
        """Return the negative log likelihood of a token for every row."""
        chosen = np.take_along_axis(self.logits, targets[:, None], axis=1)[:, 0]
        losses: Values = np.log(self.total) - chosen
        return losses


def _overlap(ours: _Shifted, theirs: _Shifted) -> Values:
    """Return sum min(p, q) of every row; 0 where q is not finite."""
    scale = (theirs.total / ours.total)[:, None]
    scaled = ours.weights * scale
    overlap: Values = np.minimum(scaled, theirs.weights, out=scaled).sum(axis=1) / theirs.total
    # Sums of equal distributions may exceed 1 by rounding.
    return np.where(np.isfinite(overlap), np.minimum(overlap, 1.0), 0.0)


def _shifted(logits: Array) -> _Shifted:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    weights = np.exp(wide)
    return _Shifted(wide, weights, weights.sum(axis=1))
