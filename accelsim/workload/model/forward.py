"""The float32 forward pass of Llama's family, with replaceable linears and attention."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsim.workload.extras import import_extra
from accelsim.workload.model.families import Activation
from accelsim.workload.model.llama import Array, LayerWeights, LlamaConfig, LlamaWeights
from accelsim.workload.model.rope import Rotation, rotate, rotations

LinearHook = Callable[[int, str, Array, Array], Array]
"""(layer, name, x [tokens, in], weight [out, in]) -> [tokens, out]"""
AttentionHook = Callable[[int, Array, Array, Array, int | None], Array]
"""(layer, q [q_heads, tokens, head_dim], k, v [kv_heads, ...], window: the latest tokens that a
token sees, its own among them, or None for all) -> [q_heads, tokens, head_dim]"""

_LOGIT_ROWS = 128
_ATTENTION_SCORES = 2**20
"""Scores of a head that are made at once, 4 MB: of 1,024 tokens, or of 128 rows and 8,192 keys."""


def plain_linear(_layer: int, _name: str, x: Array, weight: Array) -> Array:
    """Return x weight^T."""
    product: Array = x @ weight.T
    return product


def causal_attention(_layer: int, q: Array, k: Array, v: Array, window: int | None = None) -> Array:
    """Return causal softmax attention; each KV head serves q_heads / kv_heads query heads.

    Queries are the last of as many tokens as there are keys. They are taken a block at a time, so
    that memory does not grow with the square of the tokens, and no block computes later keys, or
    those before the windows of all its rows.
    """
    output = np.empty_like(q)
    for rows, seen in row_blocks(q.shape[1], k.shape[1], window):
        output[:, rows] = _attention_of_block(q[:, rows], k[:, seen], v[:, seen], window)
    return output


def row_blocks(rows: int, keys: int, window: int | None) -> Iterator[tuple[slice, slice]]:
    """Yield a block of query rows and the keys that any of them sees, for all rows.

    Rows are those of the last of as many tokens as there are keys.
    """
    cached, most = keys - rows, max(1, _ATTENTION_SCORES // keys)
    for start in range(0, rows, most):
        stop = min(start + most, rows)
        first = 0 if window is None else max(0, cached + start + 1 - window)
        yield slice(start, stop), slice(first, cached + stop)


def _attention_of_block(q: Array, k: Array, v: Array, window: int | None) -> Array:
    """Return the attention of a few rows, the last of which has the last key."""
    rows, head_dim = q.shape[1:]
    group, keys = len(q) // len(k), k.shape[1]
    hidden = ~np.tri(rows, keys, keys - rows, dtype=bool)
    if window is not None:
        hidden |= np.tri(rows, keys, keys - rows - window, dtype=bool)
    output = np.empty_like(q)
    for head in range(len(q)):
        scores = q[head] @ k[head // group].T
        scores /= np.sqrt(np.float32(head_dim))
        scores[hidden] = -np.inf
        output[head] = softmax(scores, out=scores) @ v[head // group]
    return output


@dataclass(frozen=True, slots=True)
class Hooks:
    """What computes the linears and the attention of every layer."""

    linear: LinearHook = plain_linear
    attention: AttentionHook = causal_attention


PLAIN = Hooks()


class KeyValueCache:
    """Keys and values of the tokens that a network has read, of every layer."""

    def __init__(self, config: LlamaConfig, capacity: int) -> None:
        """Make room for `capacity` tokens: 8 x layers x KV width bytes each."""
        shape = (2, config.layers, config.kv_heads, capacity, config.head_dim)
        self._stored = np.empty(shape, np.float32)
        self.tokens = 0
        """How many were read; what lies behind is forgotten where it becomes fewer."""

    def extended(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Add keys and values of new tokens; return all of the layer [kv_heads, tokens, head_dim].

        The number of tokens stays until the network has read them in all layers.
        """
        end = self.tokens + k.shape[1]
        keys, values = self._stored[:, layer, :, :end]
        keys[:, self.tokens :], values[:, self.tokens :] = k, v
        return keys, values

    def behind(self, hooks: "Hooks") -> "Hooks":
        """Return hooks whose attention sees the keys and values that are stored."""

        def attention(layer: int, q: Array, k: Array, v: Array, window: int | None) -> Array:
            return hooks.attention(layer, q, *self.extended(layer, k, v), window)

        return replace(hooks, attention=attention)


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
    cache: KeyValueCache | None = None,
) -> Array:
    """Return the residual stream [tokens, hidden] after the first `num_layers` layers (all).

    With a cache the tokens follow those that it holds, and it holds them afterwards.
    """
    x = embedded(weights, np.asarray(token_ids))
    first = 0 if cache is None else cache.tokens
    turns = layer_rotations(weights, len(token_ids), first)
    own = hooks if cache is None else cache.behind(hooks)
    for index in range(len(weights.layers[:num_layers])):
        x = decoder_layer(weights, index, x, turns[index], own)
    if cache is not None:
        cache.tokens += len(token_ids)
    return x


def embedded(weights: LlamaWeights, token_ids: NDArray[np.int64]) -> Array:
    """Return the residual stream [..., hidden] before the first layer, of ids of any shape."""
    states: Array = weights.embedding[token_ids]
    if weights.config.family.scales_embedding:
        states *= np.sqrt(np.float32(weights.config.hidden))
    return states


def layer_rotations(weights: LlamaWeights, tokens: int, first: int = 0) -> list[Rotation]:
    """Return the rotary embedding of each layer, for `tokens` positions from `first` on."""
    return rotations(tokens, [layer.frequencies for layer in weights.layers], first)


def decoder_layer(
    weights: LlamaWeights, index: int, x: Array, rotation: Rotation, hooks: Hooks = PLAIN
) -> Array:
    """Return the residual stream [tokens, hidden] after layer `index`, given the one before.

    The caller sees to `one_blas_thread`, which takes a while to set up.
    """
    block = _Block(index, weights.layers[index], weights.config, hooks)
    x = x + block.normed(block.attention(x, rotation), "post_attention")
    return x + block.normed(block.ffn(x), "post_ffn")


def final_states(
    weights: LlamaWeights,
    token_ids: Sequence[int],
    hooks: Hooks = PLAIN,
    cache: KeyValueCache | None = None,
) -> Array:
    """Return what the output projection takes in, [tokens, hidden]; cache: see `hidden_states`."""
    states = hidden_states(weights, token_ids, hooks, cache=cache)
    return rms_norm(states, weights.final_norm, weights.config.norm_epsilon)


def logits_of(weights: LlamaWeights, states: Array) -> Array:
    """Return the logits [tokens, vocabulary] of final states; the caller holds one BLAS thread."""
    logits: Array = states @ weights.head.T
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


def softmax(scores: Array, out: Array | None = None) -> Array:
    """Return the softmax of every row, in `out` if it is given, which may be the scores."""
    weights: Array = np.subtract(scores, scores.max(axis=-1, keepdims=True), out=out)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


@dataclass(frozen=True, slots=True)
class _Block:
    """What one layer computes."""

    index: int
    layer: LayerWeights
    config: LlamaConfig
    hooks: Hooks

    def attention(self, x: Array, rotation: Rotation) -> Array:
        normed = rms_norm(x, self.layer.attention_norm, self.config.norm_epsilon)
        q, k, v = (self._heads(name, normed) for name in ("q", "k", "v"))
        q, k = (rotate(self.normed(each, name), rotation) for each, name in ((q, "q"), (k, "k")))
        heads = self.hooks.attention(self.index, q, k, v, self.layer.window)
        return self._linear("o", heads.swapaxes(0, 1).reshape(len(x), -1))

    def ffn(self, x: Array) -> Array:
        normed = rms_norm(x, self.layer.ffn_norm, self.config.norm_epsilon)
        gate = _ACTIVATIONS[self.config.family.activation](self._linear("gate", normed))
        return self._linear("down", gate * self._linear("up", normed))

    def normed(self, x: Array, name: str) -> Array:
        """Return x under a norm that some families have, row by row."""
        scale = self.layer.norms.get(name)
        return x if scale is None else rms_norm(x, scale, self.config.norm_epsilon)

    def _heads(self, name: str, x: Array) -> Array:
        """Return the heads [heads, tokens, head_dim] of a linear."""
        heads = self._linear(name, x).reshape(len(x), -1, self.config.head_dim)
        return np.ascontiguousarray(heads.swapaxes(0, 1))

    def _linear(self, name: str, x: Array) -> Array:
        output = self.hooks.linear(self.index, name, x, self.layer.linears[name])
        bias = self.layer.biases.get(name)
        return output if bias is None else output + bias


def _silu(x: Array) -> Array:
    # tanh instead of exp: no overflow for large negative values.
    half = np.float32(0.5)
    activated: Array = x * (half + half * np.tanh(half * x))
    return activated


def _gelu(x: Array) -> Array:
    """Return GELU as approximated by tanh (arXiv 1606.08415, section 2)."""
    half, root, cubic = np.float32(0.5), np.sqrt(np.float32(2 / np.pi)), np.float32(0.044715)
    activated: Array = half * x * (1 + np.tanh(root * (x + cubic * x * x * x)))
    return activated


_ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {"silu": _silu, "gelu": _gelu}


def _log_sum_exp(logits: Array) -> NDArray[np.float64]:
    peak = logits.max(axis=-1, keepdims=True)
    total = np.exp(logits - peak).sum(axis=-1, dtype=np.float64)
    result: NDArray[np.float64] = peak[:, 0] + np.log(total)
    return result
