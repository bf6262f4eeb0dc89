"""The model families that are understood: what sets each apart from Llama."""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["silu", "gelu"]
"""Function of the gate; `gelu` in its approximation by tanh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the models of a family have in common."""

    name: str
    """As GGUF files have it under `general.architecture`."""
    biases: tuple[str, ...] = ()
    """Linears that always have a bias; any may have one."""
    head_norms: bool = False
    """Every query and key is normed before it is rotated."""
    post_norms: bool = False
    """What attention and FFN add to the residual stream is normed."""
    activation: Activation = "silu"
    scales_embedding: bool = False
    """Embeddings are multiplied by the root of their length."""
    adds_one_to_norms: bool = False
    """Checkpoints of its publisher hold the scales of norms less 1; GGUF files hold the scales."""
    rotates_neighbours: bool = False
    """GGUF files order rows of Q and K so that neighbors rotate together."""
    global_layer_every: int = 1
    """Every so many layers one has the RoPE base of the model, the others a local one."""


LLAMA = Family(name="llama", rotates_neighbours=True)
"""Llama 1 to 3, SmolLM2, TinyLlama and Mistral, whose layers are the same."""
QWEN2 = Family(name="qwen2", biases=("q", "k", "v"))
QWEN3 = Family(name="qwen3", head_norms=True)
GEMMA3 = Family(
    name="gemma3",
    head_norms=True,
    post_norms=True,
    activation="gelu",
    scales_embedding=True,
    adds_one_to_norms=True,
    global_layer_every=6,
)

GGUF_FAMILIES = {family.name: family for family in (LLAMA, QWEN2, QWEN3, GEMMA3)}
"""`general.architecture` of a GGUF file -> family."""
CHECKPOINT_FAMILIES = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma3_text": GEMMA3,
}
"""`model_type` of a config.json -> family."""
