"""Attention over a cache that keeps keys and values in another format, in FP32 otherwise."""

import numpy as np

from accelsim.numerics.kv_codes import kv_codes
from accelsim.numerics.kv_format import KvFormat
from accelsim.workload.model.forward import causal_attention, row_blocks, softmax
from accelsim.workload.model.llama import Array


class CachedAttention:
    """An attention hook of the forward pass, whose rows see what decoding them would leave.

    Row i is token n - 1 of the first n tokens. When it is decoded, its own key and value are in the
    cache before it looks: n - n mod R keys and n - R values are codes, R being the residual of the
    format, and the later ones are as they came. So teacher forcing over a whole window and decoding
    it token by token are the same. Scales of tensors and heads are those of all tokens that the
    hook is given at once, later ones among them, as a calibration would know them.
    """

    def __init__(self, fmt: KvFormat) -> None:
        self.format = fmt

    def __call__(
        self, layer: int, q: Array, k: Array, v: Array, window: int | None = None
    ) -> Array:
        """Return the attention of one layer, as `causal_attention` does."""
        keys = kv_codes(k, self.format, "keys").values
        values = kv_codes(v, self.format, "values").values
        if not self.format.residual:
            return causal_attention(layer, q, keys, values, window)
        output = np.empty_like(q)
        for rows, seen in row_blocks(q.shape[1], k.shape[1], window):
            own = _Block(self.format, rows, seen, k.shape[1] - q.shape[1], window)
            parts = (k[:, seen], keys[:, seen]), (v[:, seen], values[:, seen])
            output[:, rows] = own.attention(q[:, rows], *parts)
        return output


class _Block:
    """A few rows of queries and the keys that any of them sees."""

    def __init__(
        self, fmt: KvFormat, rows: slice, seen: slice, cached: int, window: int | None
    ) -> None:
        tokens = cached + np.arange(rows.start, rows.stop)[:, None] + 1
        number = np.arange(seen.start, seen.stop)
        self._hidden = number >= tokens
        if window is not None:
            self._hidden |= number < tokens - window
        self._keeps_key = number >= tokens - fmt.plain_keys(tokens)
        self._keeps_value = number >= tokens - fmt.residual

    def attention(self, q: Array, keys: tuple[Array, Array], values: tuple[Array, Array]) -> Array:
        """Return the attention of the rows; keys and values as they came, and as codes."""
        output, group = np.empty_like(q), len(q) // len(keys[0])
        root = np.sqrt(np.float32(q.shape[2]))
        for head, queries in enumerate(q):
            plain, coded = (queries @ each[head // group].T for each in keys)
            scores = np.where(self._keeps_key, plain, coded) / root
            scores[self._hidden] = -np.inf
            weights = softmax(scores, out=scores)
            plain, coded = (each[head // group] for each in values)
            output[head] = (weights * self._keeps_value) @ plain
            output[head] += (weights * ~self._keeps_value) @ coded
        return output
