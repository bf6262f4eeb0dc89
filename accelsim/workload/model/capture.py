"""Real tensors: what the attention and the linears of a model see while it reads a text."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.workload.archives import Arrays, find_file, write_arrays
from accelsim.workload.model.forward import Hooks, causal_attention, hidden_states, plain_linear
from accelsim.workload.model.language import LanguageModel, load_model, read_text
from accelsim.workload.model.llama import Array
from accelsim.workload.sources import ModelHeadsSource, ModelLinearSource

INPUT_OF = {
    "q": "qkv_input",
    "k": "qkv_input",
    "v": "qkv_input",
    "o": "o_input",
    "gate": "gate_up_input",
    "up": "gate_up_input",
    "down": "down_input",
}
"""Linear -> name of its captured input; some linears share one."""

_KEPT_CAPTURES = 4
"""Captures that stay in memory; Q, K and V of 4,096 tokens of SmolLM2 take 16 MB."""


def capture(model: LanguageModel, text: str, tokens: int, layers: Sequence[int]) -> Arrays:
    """Return what `layers` see of the first `tokens` tokens, as float32 arrays.

    `layer<i>.q` [q_heads, tokens, head_dim] and `.k`, `.v` [kv_heads, tokens, head_dim] after the
    rotary embedding; inputs of linears `.qkv_input`, `.o_input`, `.gate_up_input` [tokens, hidden]
    and `.down_input` [tokens, ffn].
    """
    return capture_ids(model, model.opened(model.token_ids(text, tokens)), layers)


def capture_tensors(
    model_name: str, text_path: Path | None, tokens: int, layers: Sequence[int], out_path: Path
) -> dict[str, tuple[int, ...]]:
    """Write what `capture` returns to an .npz or .safetensors file; return name -> shape."""
    arrays = capture(load_model(model_name), read_text(text_path), tokens, layers)
    write_arrays(out_path, arrays)
    return {name: values.shape for name, values in arrays.items()}


def capture_heads(
    source: ModelHeadsSource, folder: Path, batch: int, q_rows: int, kv_len: int
) -> Arrays:
    """Return q, k and v [batch x heads, rows, head_dim] of `batch` consecutive parts of a text."""
    model = load_model(source.model, folder)
    text = _source_text(source, folder)
    parts = [
        _heads(model, source, seen)
        for seen in _seen_by_layer(model, text, batch, kv_len, source.layer, ("q", "k", "v"))
    ]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in "qkv"}
    return arrays | {"q": arrays["q"][:, max(0, kv_len - q_rows) :]}


def check_window(source: ModelHeadsSource, folder: Path, kv_len: int, window: int | None) -> None:
    """Raise WorkloadError where a layer sees less of its tokens than a problem says."""
    model = load_model(source.model, folder)
    own = dict(enumerate(model.weights.layers)).get(source.layer)
    if own is None or own.window is None or window == own.window or kv_len <= own.window:
        return
    raise WorkloadError(
        f"window: found {'none' if window is None else window} over {kv_len} keys, allowed: "
        f"{own.window}, as layer {source.layer} of model '{model.name}' has it"
    )


def capture_linear(source: ModelLinearSource, folder: Path, rows: int) -> Arrays:
    """Return a [rows, in], the input of a linear, and b [in, out], its weights."""
    model = load_model(source.model, folder)
    name = INPUT_OF[source.linear]
    (seen,) = _seen_by_layer(model, _source_text(source, folder), 1, rows, source.layer, (name,))
    return {"a": seen[name], "b": model.weights.layers[source.layer].linears[source.linear].T}


@lru_cache(maxsize=_KEPT_CAPTURES)
def _seen_by_layer(
    model: LanguageModel, text: str, parts: int, tokens: int, layer: int, names: tuple[str, ...]
) -> tuple[Arrays, ...]:
    """Return the arrays `names` of one layer for each of the first `parts` x `tokens` of a text.

    They are kept, because the points of a sweep ask for the same ones, and read-only.
    """
    ids = model.token_ids(text, parts * tokens)
    windows = (model.opened(ids[start : start + tokens]) for start in range(0, len(ids), tokens))
    return tuple(
        _read_only(capture_ids(model, window, [layer]), layer, names) for window in windows
    )


def _read_only(captured: Arrays, layer: int, names: tuple[str, ...]) -> Arrays:
    arrays = {name: captured[f"layer{layer}.{name}"] for name in names}
    for values in arrays.values():
        values.flags.writeable = False
    return arrays


def _heads(model: LanguageModel, source: ModelHeadsSource, seen: Arrays) -> Arrays:
    q, k, v = (seen[name] for name in "qkv")
    kept = list(range(len(k)) if source.heads is None else source.heads)
    if max(kept) >= len(k):
        raise WorkloadError(
            f"model '{model.name}' has KV heads 0 to {len(k) - 1}, found head {max(kept)}"
        )
    groups = q.reshape(len(k), -1, *q.shape[1:])
    return {"q": groups[kept].reshape(-1, *q.shape[1:]), "k": k[kept], "v": v[kept]}


def capture_ids(model: LanguageModel, ids: Sequence[int], layers: Sequence[int]) -> Arrays:
    """Return what `capture` does, for given tokens."""
    config = model.weights.config
    if len(ids) > config.context:
        raise WorkloadError(
            f"model '{model.name}' reads up to {config.context} tokens, found {len(ids)}"
        )
    for layer in layers:
        if not 0 <= layer < config.layers:
            raise WorkloadError(
                f"model '{model.name}' has layers 0 to {config.layers - 1}, found layer {layer}"
            )
    seen: Arrays = {}
    hidden_states(model.weights, ids, _recording_hooks(seen, layers), max(layers) + 1)
    return seen


def _recording_hooks(seen: Arrays, layers: Sequence[int]) -> Hooks:
    def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
        if layer in layers:
            seen[f"layer{layer}.{INPUT_OF[name]}"] = x
        return plain_linear(layer, name, x, weight)

    def attention(layer: int, q: Array, k: Array, v: Array, window: int | None) -> Array:
        if layer in layers:
            seen.update({f"layer{layer}.q": q, f"layer{layer}.k": k, f"layer{layer}.v": v})
        return causal_attention(layer, q, k, v, window)

    return Hooks(linear, attention)


def _source_text(source: ModelHeadsSource | ModelLinearSource, folder: Path) -> str:
    return read_text(None if source.text is None else find_file(source.text, folder))
