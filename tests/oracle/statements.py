"""The decode algorithms in float64 NumPy, written for reading: what the kernels are judged by.

Nothing here is shared with accelsim.kernels. Masks are bool [q_heads, steps, kv_len].
"""

import numpy as np

from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


def generation(
    steps: int,
    kv_len: int,
    *,
    heads: int = 1,
    group: int = 1,
    dim: int = 8,
    causal: bool = True,
    dtype: str = "fp32",
) -> AttentionProblem:
    """Return the problem of so many steps, the last of which sees kv_len keys."""
    return AttentionProblem.model_validate(
        {
            "kind": "attention",
            "name": "generation",
            "q_heads": heads * group,
            "kv_heads": heads,
            "head_dim": dim,
            "q_len": 1,
            "kv_len": kv_len,
            "steps": steps,
            "causal": causal,
            "dtype": dtype,
        }
    )


def normal_tensors(problem: AttentionProblem, seed: int, spread: float = 1.0) -> AttentionTensors:
    """Return normal Q, K, V that are FP16 numbers; scores have a standard deviation `spread`."""
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_normal(shape) for name, shape in problem.input_shapes.items()}
    values["q"] *= spread
    return AttentionTensors(
        **{n: x.astype(np.float16).astype(np.float32) for n, x in values.items()}
    )


def seen(problem: AttentionProblem, step: int) -> int:
    """Return the keys that a step sees."""
    return problem.kv_len - problem.steps + step + 1


def scores_of(problem: AttentionProblem, tensors: AttentionTensors, head: int, step: int):
    """Return the scaled scores of the keys that one row of a query head sees."""
    keys = tensors.k[head // (problem.q_heads // problem.kv_heads)][: seen(problem, step)]
    query = tensors.q[head, step].astype(np.float64)
    return keys.astype(np.float64) @ query / np.sqrt(problem.head_dim)


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def attention_over(problem, tensors, mask, *, renormalize=True):
    """Return attention in which every head sees only what `mask` keeps, [q_heads steps, dim]."""
    output = np.zeros(tensors.q.shape)
    for head in range(problem.q_heads):
        values = tensors.v[head // (problem.q_heads // problem.kv_heads)].astype(np.float64)
        for step in range(problem.steps):
            count = seen(problem, step)
            weights = softmax(scores_of(problem, tensors, head, step)) * mask[head, step, :count]
            divisor = weights.sum() if renormalize else 1.0
            output[head, step] = weights @ values[:count] / divisor
    return output.reshape(-1, problem.head_dim)


def full_mask(problem):
    mask = np.zeros((problem.q_heads, problem.steps, problem.kv_len), bool)
    for step in range(problem.steps):
        mask[:, step, : seen(problem, step)] = True
    return mask


def union(problem, mask):
    """Return what the heads of each group keep together, [kv_heads, steps, kv_len]."""
    return mask.reshape(problem.kv_heads, -1, *mask.shape[1:]).any(axis=1)


def split_attention(scores, values, splits):
    """Return attention of one row merged from ranges of keys, each with its maximum and sum."""
    parts = []
    for chosen in np.array_split(np.arange(len(scores)), splits):
        if chosen.size:
            largest = scores[chosen].max()
            weights = np.exp(scores[chosen] - largest)
            parts.append((largest, weights.sum(), weights @ values[chosen]))
    largest = max(part[0] for part in parts)
    total = sum(np.exp(part[0] - largest) * part[1] for part in parts)
    return sum(np.exp(part[0] - largest) * part[2] for part in parts) / total


def topk_mask(problem, tensors, keep, exact_steps=0):
    """Keep the keep(n) largest of n scores, of equal ones the first."""
    mask = full_mask(problem)
    for head in range(problem.q_heads):
        for step in range(exact_steps, problem.steps):
            scores = scores_of(problem, tensors, head, step)
            order = np.argsort(-scores, kind="stable")
            mask[head, step, order[keep(len(scores)) :]] = False
    return mask


def window_mask(problem, window, sinks):
    mask = full_mask(problem)
    for step in range(problem.steps):
        mask[:, step, sinks : max(sinks, seen(problem, step) - window)] = False
    return mask


def sift_mask(problem, tensors, tau, warmup, rule, *, fit_from=1, factor=1.0, c=1.0):
    """Keep all keys in the warm-up, then those whose weight reaches the fitted threshold."""
    mask = full_mask(problem)
    for head in range(problem.q_heads):
        lengths, quantiles = [], []
        for step in range(warmup):
            weights = softmax(scores_of(problem, tensors, head, step))
            rank = int(np.ceil(round((1 - tau) * len(weights), 6)))
            if len(weights) >= fit_from:
                lengths.append(len(weights))
                quantiles.append(np.sort(weights)[-max(rank, 1)])
        theta = _law(np.array(lengths), np.array(quantiles), rule, c)
        for step in range(warmup, problem.steps):
            weights = softmax(scores_of(problem, tensors, head, step))
            bound = min(factor * theta(len(weights)), weights.max())
            mask[head, step, : len(weights)] = weights >= bound
    return mask


def _law(lengths, quantiles, rule, c):
    """Return the threshold as a function of context length; 0 where no falling law fits."""
    if rule == "given":
        return lambda t: c / t
    if rule == "c_over_t":
        return lambda t: np.exp(np.mean(np.log(lengths * quantiles))) / t
    if len(set(lengths.tolist())) < 2:
        return lambda t: 0.0
    slope, log_a = np.polyfit(np.log(lengths), np.log(quantiles), 1)
    return (lambda t: np.exp(log_a) * t**slope) if slope < 0 else (lambda t: 0.0)


def quest_masks(problem, tensors, page, keep):
    """Keep the pages that any head of a group bounds highest, and the page being filled."""
    mask = full_mask(problem)
    for kv_head in range(problem.kv_heads):
        group = problem.q_heads // problem.kv_heads
        heads = range(kv_head * group, (kv_head + 1) * group)
        for step in range(problem.steps):
            full = (seen(problem, step) - 1) // page
            if keep(full) >= full:
                continue
            pages = tensors.k[kv_head, : full * page].reshape(full, page, -1).astype(np.float64)
            picked = set()
            for head in heads:
                query = tensors.q[head, step].astype(np.float64)
                bounds = np.maximum(query * pages.min(axis=1), query * pages.max(axis=1)).sum(
                    axis=1
                )
                picked |= set(np.argsort(-bounds, kind="stable")[: keep(full)].tolist())
            for dropped in set(range(full)) - picked:
                mask[heads, step, dropped * page : (dropped + 1) * page] = False
    return mask
