"""The thresholds of `sift` for all heads of a model, from what it reads of texts.

A model in FP32 reads windows of texts. At some rows of every window the quantiles of the softmax
weights of each head are observed, and what was observed in all windows and texts goes into the sums
of the head's law (Koley et al., SiftAttention, 2025, arXiv 2506.05300, whose warm-up does so during
a generation).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import WorkloadError
from accelsim.kernels.attention.decode.power_law import NUM_SUMS
from accelsim.kernels.attention.decode.selecting import count_of
from accelsim.kernels.attention.decode.thresholds import Origin, Thresholds
from accelsim.quality.passes import Progress, ignored
from accelsim.quantization.calibration import SampledText, Sampling, sampled_windows
from accelsim.workload.model.forward import Hooks, causal_attention, final_states, softmax
from accelsim.workload.model.language import load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.texts import CALIBRATED_KINDS, Sources, read_texts

DEFAULT_TAUS = (0.75,)
DEFAULT_EVERY = 8
_FIT_FROM = 16
"""Quantiles of fewer weights are coarse."""


def learn_thresholds(
    model: str,
    taus: Sequence[float] = DEFAULT_TAUS,
    sampling: Sampling | None = None,
    text: Sources = CALIBRATED_KINDS,
    every: int = DEFAULT_EVERY,
    progress: Progress = ignored,
) -> Thresholds:
    """Return the thresholds of all heads of a model for each quantile of `taus`.

    `model` and `text` are those of `evaluate`. Row fit_from - 1 of every window is observed, and
    each `every` rows behind it. `progress` takes the layers done and all layers. Raises an
    AccelsimError for anything that is wrong with the input.
    """
    _check(taus, every)
    sampling = Sampling() if sampling is None else sampling
    network, texts = load_model(model), read_texts(text)
    windows = np.concatenate([sampled_windows(network, each, sampling) for each in texts])
    config = network.weights.config
    sums = np.zeros((len(taus), config.layers, config.q_heads, NUM_SUMS))
    total, done = config.layers * len(windows), 0
    progress(0, total)

    def attention(layer: int, q: Array, k: Array, v: Array, window: int | None) -> Array:
        nonlocal done
        sums[:, layer] += observed(q, k, taus, every)
        done += 1
        progress(done, total)
        return causal_attention(layer, q, k, v, window)

    for window in windows:
        final_states(network.weights, window.tolist(), Hooks(attention=attention))
    origin = Origin(
        model=network.name,
        texts=tuple(SampledText(name=each.name, sha256=each.sha256) for each in texts),
        sampling=sampling,
        taus=tuple(taus),
        every=every,
        fit_from=_FIT_FROM,
    )
    return Thresholds(origin, sums)


def observed(q: Array, k: Array, taus: Sequence[float], every: int) -> NDArray[np.float64]:
    """Return the sums [taus, q_heads, NUM_SUMS] of some rows of a causal window.

    The quantile of a row of t weights is the smallest of its ceil((1 - tau) t) largest. What has no
    logarithm is left out, as in `power_law.observe`.
    """
    q_heads, rows, head_dim = q.shape
    group = q_heads // len(k)
    sums = np.zeros((len(taus), q_heads, NUM_SUMS))
    for row in range(_FIT_FROM - 1, rows, every):
        seen = row + 1
        own = q[:, row].reshape(len(k), group, head_dim)
        scores = own @ k[:, :seen].swapaxes(1, 2) / np.sqrt(np.float32(head_dim))
        weights = np.sort(softmax(scores).reshape(q_heads, seen).astype(np.float64), axis=1)
        for number, tau in enumerate(taus):
            sums[number] += _terms(seen, weights[:, seen - count_of(1 - tau, seen)])
    return sums


def _terms(t: int, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what the quantiles of heads at context length t add to their sums [heads, ...]."""
    is_known = (theta > 0) & np.isfinite(theta)
    z, u = np.log(np.where(is_known, theta, 1.0)), np.log(t)
    ones = np.ones_like(z)
    return np.stack((ones, u * ones, z, u * u * ones, u * z), axis=1) * is_known[:, None]


def _check(taus: Sequence[float], every: int) -> None:
    if not taus or len(set(taus)) < len(taus):
        raise WorkloadError(f"tau: found {list(taus)}, allowed: one or more, each once")
    for tau in taus:
        if not 0 < tau < 1:
            raise WorkloadError(f"tau: found {tau}, allowed: above 0 and below 1")
    if every < 1:
        raise WorkloadError(f"every: found {every}, allowed: 1 or more")
