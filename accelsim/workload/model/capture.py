"""Real tensors: what the attention and the linears of a model see while it reads a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.workload.archives import Arrays, find_file, write_arrays
from accelsim.workload.model.forward import Hooks, causal_attention, hidden_states, plain_linear
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.llama import Array, LlamaWeights, read_llama
from accelsim.workload.model.release import model_path
from accelsim.workload.model.tokenizer import Tokenizer
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


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model that can read text."""

    name: str
    weights: LlamaWeights
    tokenizer: Tokenizer

    def token_ids(self, text: str, count: int) -> list[int]:
        """Return the first `count` tokens; raise WorkloadError if the text has fewer."""
        ids = self.tokenizer.encode(text)
        if len(ids) < count:
            raise WorkloadError(f"the text has {len(ids)} tokens, {count} are needed")
        return ids[:count]


def load_model(name: str) -> LanguageModel:
    """Return a fetched model, its weights as float32. Raises WorkloadError if damaged."""
    file = GgufFile(model_path(name))
    return LanguageModel(name, read_llama(file), Tokenizer(file))


def default_text() -> str:
    """Return the language reference that comes with this Python, its topics in sorted order."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def capture(model: LanguageModel, text: str, tokens: int, layers: Sequence[int]) -> Arrays:
    """Return what `layers` see of the first `tokens` tokens, as float32 arrays.

    `layer<i>.q` [q_heads, tokens, head_dim] and `.k`, `.v` [kv_heads, tokens, head_dim] after the
    rotary embedding; inputs of linears `.qkv_input`, `.o_input`, `.gate_up_input` [tokens, hidden]
    and `.down_input` [tokens, ffn].
    """
    return capture_ids(model, model.token_ids(text, tokens), layers)


def capture_tensors(
    model_name: str, text_path: Path | None, tokens: int, layers: Sequence[int], out_path: Path
) -> dict[str, tuple[int, ...]]:
    """Write what `capture` returns to an .npz or .safetensors file; return name -> shape."""
    arrays = capture(load_model(model_name), _read_text(text_path), tokens, layers)
    write_arrays(out_path, arrays)
    return {name: values.shape for name, values in arrays.items()}


def capture_heads(
    source: ModelHeadsSource, folder: Path, batch: int, q_len: int, kv_len: int
) -> Arrays:
    """Return q, k and v [batch x heads, rows, head_dim] of `batch` consecutive parts of a text."""
    model = load_model(source.model)
    ids = model.token_ids(_source_text(source, folder), batch * kv_len)
    parts = [
        _heads(model, source, ids[start : start + kv_len]) for start in range(0, len(ids), kv_len)
    ]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in "qkv"}
    return arrays | {"q": arrays["q"][:, max(0, kv_len - q_len) :]}


def capture_linear(source: ModelLinearSource, folder: Path, rows: int) -> Arrays:
    """Return a [rows, in], the input of a linear, and b [in, out], its weights."""
    model = load_model(source.model)
    captured = capture(model, _source_text(source, folder), rows, [source.layer])
    weight = model.weights.layers[source.layer].linears[source.linear]
    return {"a": captured[f"layer{source.layer}.{INPUT_OF[source.linear]}"], "b": weight.T}


def _heads(model: LanguageModel, source: ModelHeadsSource, ids: Sequence[int]) -> Arrays:
    captured = capture_ids(model, ids, [source.layer])
    q, k, v = (captured[f"layer{source.layer}.{name}"] for name in "qkv")
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

    def attention(layer: int, q: Array, k: Array, v: Array) -> Array:
        if layer in layers:
            seen.update({f"layer{layer}.q": q, f"layer{layer}.k": k, f"layer{layer}.v": v})
        return causal_attention(layer, q, k, v)

    return Hooks(linear, attention)


def _source_text(source: ModelHeadsSource | ModelLinearSource, folder: Path) -> str:
    return _read_text(None if source.text is None else find_file(source.text, folder))


def _read_text(path: Path | None) -> str:
    if path is None:
        return default_text()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: cannot be read as UTF-8 text ({error})") from error
