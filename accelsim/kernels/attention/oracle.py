"""Softmax attention in float64, by which every kernel is judged."""

import numpy as np

from accelsim.kernels import language as al

_ORACLE_ROWS = 1024
"""Query rows that the oracle computes at once, which bounds its memory."""


def softmax_attention(problem: al.AttentionProblem, tensors: al.AttentionTensors) -> al.Array:
    """Return softmax(Q K^T / sqrt(d)) V in float64, [rows of Q, value_dim].

    With sinks a row has one more logit, that of its head, which weighs nothing (OpenAI, gpt-oss
    model card, 2025, section 2.2).

    Rows are those of all heads of all sequences: batch * q_heads * q_len without `sequences`. A row
    of a generation is a step, and is that of the step alone.
    """
    return np.concatenate([_of_equal(*each) for each in tensors.parts(problem)])


def _of_equal(problem: al.AttentionProblem, tensors: al.AttentionTensors) -> al.Array:
    """Return the attention of sequences of one length."""
    output = np.empty(problem.output_shapes["o"], np.float64)
    for head, queries in enumerate(tensors.q.astype(np.float64)):
        kv_head = head * problem.kv_heads // problem.q_heads
        keys = tensors.k[kv_head].astype(np.float64) * tensors.k_scale
        values = tensors.v[kv_head].astype(np.float64) * tensors.v_scale
        for start in range(0, len(queries), _ORACLE_ROWS):
            rows = np.arange(start, min(start + _ORACLE_ROWS, len(queries)))
            is_masked = hidden_keys(problem, rows)
            # Infinite and NaN inputs are the user's to see, not ours to warn about.
            with np.errstate(invalid="ignore", over="ignore"):
                scores = capped(problem, queries[rows] @ keys.T / np.sqrt(problem.head_dim))
                scores = np.where(is_masked, -np.inf, scores)
                largest = scores.max(axis=1, keepdims=True)
                rest = np.zeros_like(largest)
                if tensors.sinks is not None:
                    sink = float(tensors.sinks[head % problem.q_heads, 0])
                    largest = np.maximum(largest, sink)
                    rest = np.exp(sink - largest)
                weights = np.exp(scores - largest)
                output[head, rows] = weights @ values / (weights.sum(axis=1, keepdims=True) + rest)
    return output.reshape(-1, problem.widths.value)


def capped(problem: al.AttentionProblem, scores: al.Array) -> al.Array:
    """Return scores as the softmax takes them (Gemma Team, "Gemma 2", 2024, section 2)."""
    cap = problem.softcap
    return scores if cap is None else cap * np.tanh(scores / cap)


def hidden_keys(problem: al.AttentionProblem, rows: al.Array) -> al.Array | np.bool_:
    """Where a key is of a later step, behind a causal mask or outside a window, [rows, kv_len].

    The latest `window` keys and the first `sink_tokens` are in it (Jiang et al., "Mistral 7B",
    2023; Xiao et al., "Efficient Streaming Language Models with Attention Sinks", 2023).
    """
    if problem.steps == 1 and not problem.causal and problem.window is None:
        return np.False_
    cached = problem.kv_len - problem.steps * problem.q_len
    keys, own = np.arange(problem.kv_len), cached + rows[:, None]
    if problem.window is None:
        return keys > own
    return (keys > own) | ((keys <= own - problem.window) & (keys >= problem.sink_tokens))
