"""The float32 forward pass of a Llama model, with replaceable linears and attention."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.workload.extras import import_extra
from accelsim.workload.model.llama import Array, LayerWeights, LlamaConfig, LlamaWeights

LinearHook = Callable[[int, str, Array, Array], Array]
"""(layer, name, x [tokens, in], weight [out, in]) -> [tokens, out]"""
AttentionHook = Callable[[int, Array, Array, Array], Array]
"""(layer, q [q_heads, tokens, head_dim], k, v [kv_heads, ...]) -> [q_heads, tokens, head_dim]"""

_LOGIT_ROWS = 128


def plain_linear(_layer: int, _name: str, x: Array, weight: Array) -> Array:
    """Return x weight^T."""
    product: Array = x @ weight.T
    return product


def causal_attention(_layer: int, q: Array, k: Array, v: Array) -> Array:
    """Return causal softmax attention; each KV head serves q_heads / kv_heads query heads."""
    tokens, head_dim = q.shape[1:]
    group = len(q) // len(k)
    hidden = np.triu(np.ones((tokens, tokens), dtype=bool), k=1)
    output = np.empty_like(q)
    for head in range(len(q)):
        scores = q[head] @ k[head // group].T / np.sqrt(np.float32(head_dim))
        scores[hidden] = -np.inf
        output[head] = softmax(scores) @ v[head // group]
    return output


@dataclass(frozen=True, slots=True)
class Hooks:
    """What computes the linears and the attention of every layer."""

    linear: LinearHook = plain_linear
    attention: AttentionHook = causal_attention


PLAIN = Hooks()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Multiply matrices on one thread, so that no sum depends on the number of cores."""
    with import_extra("threadpoolctl", "a language model").threadpool_limits(1, user_api="blas"):
        yield


@one_blas_thread()
def hidden_states(
    weights: LlamaWeights,
    token_ids: Sequence[int],
    hooks: Hooks = PLAIN,
    num_layers: int | None = None,
) -> Array:
    """Return the residual stream [tokens, hidden] after the first `num_layers` layers (all)."""
    config = weights.config
    x: Array = weights.embedding[np.asarray(token_ids)]
    rotation = rope_rotation(len(token_ids), config)
    for index in range(len(weights.layers[:num_layers])):
        x = decoder_layer(weights, index, x, rotation, hooks)
    return x


def decoder_layer(
    weights: LlamaWeights, index: int, x: Array, rotation: tuple[Array, Array], hooks: Hooks = PLAIN
) -> Array:
    """Return the residual stream [tokens, hidden] after layer `index`, given the one before.

    The caller sees to `one_blas_thread`, which takes a while to set up.
    """
    layer, config = weights.layers[index], weights.config
    x = x + _attention_block(index, x, layer, config, rotation, hooks)
    return x + _ffn_block(index, x, layer, config, hooks)


def final_states(weights: LlamaWeights, token_ids: Sequence[int], hooks: Hooks = PLAIN) -> Array:
    """Return what the output projection takes in, [tokens, hidden]."""
    states = hidden_states(weights, token_ids, hooks)
    return rms_norm(states, weights.final_norm, weights.config.norm_epsilon)


def logits_of(weights: LlamaWeights, states: Array) -> Array:
    """Return the logits [tokens, vocabulary] of final states; the caller holds one BLAS thread."""
    logits: Array = states @ weights.embedding.T
    return logits


@one_blas_thread()
def token_losses(
    weights: LlamaWeights, token_ids: Sequence[int], hooks: Hooks = PLAIN
) -> NDArray[np.float64]:
    """Return the negative log likelihood of every token but the first, in nats [tokens - 1].

    The perplexity of the text is exp(mean). Logits are made for a few rows at a time: all of
    them would take tokens x vocabulary x 4 bytes.
    """
    states = final_states(weights, token_ids[:-1], hooks)
    targets = np.asarray(token_ids[1:])
    losses = np.empty(len(targets))
    for start in range(0, len(targets), _LOGIT_ROWS):
        rows = slice(start, start + _LOGIT_ROWS)
        logits = logits_of(weights, states[rows])
        chosen = np.take_along_axis(logits, targets[rows, None], axis=1)[:, 0]
        losses[rows] = _log_sum_exp(logits) - chosen
    return losses


def rms_norm(x: Array, scale: Array, epsilon: float) -> Array:
    """Return x / RMS(x) x scale, row by row."""
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
    normed: Array = x / np.sqrt(mean_square + np.float32(epsilon)) * scale
    return normed


def softmax(scores: Array) -> Array:
    """Return the softmax of every row."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    normed: Array = weights / weights.sum(axis=-1, keepdims=True)
    return normed


def rope_rotation(tokens: int, config: LlamaConfig) -> tuple[Array, Array]:
    """Return cosines and sines [tokens, head_dim / 2] of rotary embedding (arXiv 2104.09864)."""
    half = config.head_dim // 2
    frequencies = config.rope_theta ** (-np.arange(half) / half)
    angles = np.outer(np.arange(tokens), frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: Array, rotation: tuple[Array, Array]) -> Array:
    """Return x [heads, tokens, head_dim] with element i and i + head_dim / 2 rotated as a pair."""
    cosines, sines = rotation
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate(
        (first * cosines - second * sines, second * cosines + first * sines), axis=-1
    )


def _attention_block(
    index: int,
    x: Array,
    layer: LayerWeights,
    config: LlamaConfig,
    rotation: tuple[Array, Array],
    hooks: Hooks,
) -> Array:
    normed = rms_norm(x, layer.attention_norm, config.norm_epsilon)
    q, k, v = (
        _split_heads(hooks.linear(index, name, normed, layer.linears[name]), config.head_dim)
        for name in ("q", "k", "v")
    )
    heads = hooks.attention(index, rotate(q, rotation), rotate(k, rotation), v)
    merged = heads.swapaxes(0, 1).reshape(x.shape)
    return hooks.linear(index, "o", merged, layer.linears["o"])


def _ffn_block(
    index: int, x: Array, layer: LayerWeights, config: LlamaConfig, hooks: Hooks
) -> Array:
    normed = rms_norm(x, layer.ffn_norm, config.norm_epsilon)
    gate = hooks.linear(index, "gate", normed, layer.linears["gate"])
    up = hooks.linear(index, "up", normed, layer.linears["up"])
    return hooks.linear(index, "down", _silu(gate) * up, layer.linears["down"])


def _split_heads(x: Array, head_dim: int) -> Array:
    return np.ascontiguousarray(x.reshape(len(x), -1, head_dim).swapaxes(0, 1))


def _silu(x: Array) -> Array:
    # tanh instead of exp: no overflow for large negative values.
    half = np.float32(0.5)
    activated: Array = x * (half + half * np.tanh(half * x))
    return activated


def _log_sum_exp(logits: Array) -> NDArray[np.float64]:
    peak = logits.max(axis=-1, keepdims=True)
    total = np.exp(logits - peak).sum(axis=-1, dtype=np.float64)
    result: NDArray[np.float64] = peak[:, 0] + np.log(total)
    return result
