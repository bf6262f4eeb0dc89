"""Fit the weights of learned block masks again: python workloads/data/fit_masks.py

Writes smollm2_masks.safetensors: for the heads of smollm2_heads.npz, the linears of the gate and
the projections of the indexer (kernel `sparse`, masks `gate` and `indexer`). Needs
`pip install 'accelsim[models]'` and `accelsim model fetch smollm2`. The text is the one of
smollm2_heads.npz, from token 8192 on, so that nothing evaluated on its first 8,192 tokens was seen.
"""

import hashlib
import os
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray

from accelsim.workload.archives import write_arrays
from accelsim.workload.model.capture import capture_ids
from accelsim.workload.model.language import default_text, load_model

Array = NDArray[np.float64]

FIRST_TOKEN, WINDOW_TOKENS, WINDOWS = 8192, 4096, 4
"""The last window is held out."""
GROUPS = {11: 1, 18: 2}
"""Layer -> KV head, taken with its three query heads."""
GROUP, BLOCK, GATE_DIM, INDEX_DIM = 3, 64, 32, 16
STEPS, LEARNING_RATE, DECAYS = 1500, 0.02, (0.9, 0.999)


def main() -> None:
    """Capture the heads, fit, say how well the held-out window is predicted, and write."""
    windows = capture_windows()
    weights = {}
    for layer in GROUPS:
        heads = [window[layer] for window in windows]
        index_q, index_k = low_rank_factors([q for q, _ in heads], [k for _, k in heads])
        pooled = [pooled_blocks(q, k) for q, k in heads]
        gate_q, gate_k = fit_gate(pooled[:-1])
        print(f"layer {layer}: held-out KL {divergence(pooled[-1:], gate_q, gate_k):.3f} nat")
        weights |= {
            f"layer{layer}.gate_q": gate_q,
            f"layer{layer}.gate_k": gate_k[None],
            f"layer{layer}.index_q": index_q[None],
            f"layer{layer}.index_k": index_k[None],
        }
    path = Path(__file__).parent / "smollm2_masks.safetensors"
    write_arrays(path, {name: values.astype(np.float16) for name, values in weights.items()})
    print(f"{path.name} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


def capture_windows() -> list[dict[int, tuple[Array, Array]]]:
    """Return, for every window and layer, Q [3, tokens, 64] and K [tokens, 64]."""
    model = load_model("smollm2")
    ids = model.token_ids(default_text(), FIRST_TOKEN + WINDOWS * WINDOW_TOKENS)[FIRST_TOKEN:]
    windows = []
    for start in range(0, len(ids), WINDOW_TOKENS):
        seen = capture_ids(model, ids[start : start + WINDOW_TOKENS], list(GROUPS))
        windows.append(
            {
                layer: (
                    seen[f"layer{layer}.q"][GROUP * head : GROUP * (head + 1)].astype(np.float64),
                    seen[f"layer{layer}.k"][head].astype(np.float64),
                )
                for layer, head in GROUPS.items()
            }
        )
    return windows


def low_rank_factors(queries: list[Array], keys: list[Array]) -> tuple[Array, Array]:
    """Return the P, R [64, 16] with the least mean square of q.k - (q P).(k R) over all q and k."""
    q = np.concatenate([x.reshape(-1, x.shape[-1]) for x in queries])
    k = np.concatenate(keys)
    root_q, root_k = square_root(q.T @ q / len(q)), square_root(k.T @ k / len(k))
    left, values, right = np.linalg.svd(root_q @ root_k)
    scale = np.sqrt(values[:INDEX_DIM])
    p = np.linalg.solve(root_q, left[:, :INDEX_DIM] * scale)
    r = np.linalg.solve(root_k, right[:INDEX_DIM].T * scale)
    balance = np.sqrt(np.abs(k @ r).max() / np.abs(q @ p).max())
    return p * balance, r / balance


def square_root(covariance: Array) -> Array:
    """Return the symmetric square root; directions without variance get a little."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 1e-9 * values[-1]))) @ vectors.T


def pooled_blocks(q: Array, k: Array) -> tuple[Array, Array, Array]:
    """Return mean queries [3, n, 64], mean keys [n, 64] and true block masses [3, n, n]."""
    blocks, dim = len(k) // BLOCK, k.shape[-1]
    hidden = np.arange(len(k)) > np.arange(len(k))[:, None]
    masses = np.empty((len(q), blocks, blocks))
    for head, queries in enumerate(q):
        scores = np.where(hidden, -np.inf, queries @ k.T / np.sqrt(dim))
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        masses[head] = weights.reshape(blocks, BLOCK, blocks, BLOCK).sum(axis=3).mean(axis=1)
    means = q.reshape(len(q), blocks, BLOCK, dim).mean(axis=2)
    return means, k.reshape(blocks, BLOCK, dim).mean(axis=1), masses


def predicted(q: Array, k: Array, gate_q: Array, gate_k: Array) -> Array:
    """Return the block probabilities [3, n, n] that the gate predicts."""
    logits = (q @ gate_q) @ (k @ gate_k).T / np.sqrt(GATE_DIM)
    hidden = np.arange(len(k)) > np.arange(len(k))[:, None]
    logits = np.where(hidden, -np.inf, logits)
    weights = np.exp(logits - logits.max(axis=2, keepdims=True))
    return weights / weights.sum(axis=2, keepdims=True)


def divergence(windows: list[tuple[Array, Array, Array]], gate_q: Array, gate_k: Array) -> float:
    """Return the mean KL divergence of the predicted from the true block masses, in nat."""
    rows = []
    for q, k, masses in windows:
        guess = predicted(q, k, gate_q, gate_k)
        some = masses > 0
        ratio = np.where(some, masses, 1.0) / np.where(some, np.maximum(guess, 1e-30), 1.0)
        rows.append((masses * np.log(ratio)).sum(axis=2).ravel())
    return float(np.concatenate(rows).mean())


def fit_gate(windows: list[tuple[Array, Array, Array]]) -> tuple[Array, Array]:
    """Return gate_q [3, 64, 32] and gate_k [64, 32] that minimize the divergence (Adam)."""
    rng = np.random.default_rng(0)
    dim = windows[0][1].shape[-1]
    basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    start = basis[:, :GATE_DIM] * (GATE_DIM / dim) ** 0.25
    parameters = [np.repeat(start[None], GROUP, axis=0), start.copy()]
    moments = [[np.zeros_like(x), np.zeros_like(x)] for x in parameters]
    for step in range(1, STEPS + 1):
        rate = LEARNING_RATE * (1 - step / (STEPS + 1))
        for i, gradient in enumerate(gradients(windows, *parameters)):
            for order, decay in enumerate(DECAYS):
                moments[i][order] += (1 - decay) * (gradient ** (order + 1) - moments[i][order])
            first, second = (m / (1 - d**step) for m, d in zip(moments[i], DECAYS, strict=True))
            parameters[i] -= rate * first / (np.sqrt(second) + 1e-8)
    return parameters[0], parameters[1]


def gradients(
    windows: list[tuple[Array, Array, Array]], gate_q: Array, gate_k: Array
) -> tuple[Array, Array]:
    """Return the gradients of the mean divergence."""
    total_q, total_k = np.zeros_like(gate_q), np.zeros_like(gate_k)
    for q, k, masses in windows:
        slope = (predicted(q, k, gate_q, gate_k) - masses) / (
            np.sqrt(GATE_DIM) * masses[..., 0].size
        )
        total_q += q.transpose(0, 2, 1) @ (slope @ (k @ gate_k))
        total_k += (k.T @ slope.transpose(0, 2, 1) @ (q @ gate_q)).sum(axis=0)
    return total_q / len(windows), total_k / len(windows)


if __name__ == "__main__":
    main()
