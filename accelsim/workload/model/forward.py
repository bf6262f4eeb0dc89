"""The float32 forward pass of Llama's family, with replaceable linears and attention."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.workload.extras import import_extra
from accelsim.workload.model.families import Activation
from accelsim.workload.model.llama import Array, LayerWeights, LlamaConfig, LlamaWeights
from accelsim.workload.model.rope import Rotation, rotate, rotations

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
    x = embedded(weights, np.asarray(token_ids))
    turns = layer_rotations(weights, len(token_ids))
    for index in range(len(weights.layers[:num_layers])):
        x = decoder_layer(weights, index, x, turns[index], hooks)
    return x


def embedded(weights: LlamaWeights, token_ids: NDArray[np.int64]) -> Array:
    """Return the residual stream [..., hidden] before the first layer, of ids of any shape."""
    states: Array = weights.embedding[token_ids]
    if weights.config.family.scales_embedding:
        states *= np.sqrt(np.float32(weights.config.hidden))
    return states


def layer_rotations(weights: LlamaWeights, tokens: int) -> list[Rotation]:
    """Return the rotary embedding of each layer, for positions from 0."""
    return rotations(tokens, [layer.frequencies for layer in weights.layers])


def decoder_layer(
    weights: LlamaWeights, index: int, x: Array, rotation: Rotation, hooks: Hooks = PLAIN
) -> Array:
    """Return the residual stream [tokens, hidden] after layer `index`, given the one before.

    The caller sees to `one_blas_thread`, which takes a while to set up.
    """
    block = _Block(index, weights.layers[index], weights.config, hooks)
    x = x + block.normed(block.attention(x, rotation), "post_attention")
    return x + block.normed(block.ffn(x), "post_ffn")


def final_states(weights: LlamaWeights, token_ids: Sequence[int], hooks: Hooks = PLAIN) -> Array:
    """Return what the output projection takes in, [tokens, hidden]."""
    states = hidden_states(weights, token_ids, hooks)
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


def softmax(scores: Array) -> Array:
    """Return the softmax of every row."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    normed: Array = weights / weights.sum(axis=-1, keepdims=True)
    return normed


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
        heads = self.hooks.attention(self.index, q, k, v)
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
