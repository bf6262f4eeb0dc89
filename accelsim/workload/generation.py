"""A batch of equal requests to a language model: what a sweep asks of a whole model."""

from typing import Literal

from accelsim.config.spec import Name, Size, Spec
from accelsim.workload.drafting import Drafting

GENERATION = "generation"
"""Kind of a workload that is a whole model at work."""


class GenerationSpec(Spec):
    """Requests that start together, each with a prompt and tokens to generate."""

    kind: Literal["generation"]
    """What is asked."""
    name: Name
    """Name shown in tables."""
    model: str
    """Shipped name of the model, its config.json, or the folder of one."""
    batch: Size = 1
    """Requests at a time."""
    prompt: Size
    """Tokens of each prompt."""
    output: Size = 1
    """Tokens that each request asks for."""
    linear: str | None = None
    """Kernel of the products, with parameters; absent: the library of the machine picks it."""
    attention: str | None = None
    """Kernel of attention where it takes the tokens; absent: the library of the machine picks
    it."""
    weights: str | None = None
    """Format of the linear maps of layers; absent: that of the model."""
    kv: str | None = None
    """Format of the KV cache; absent: that of activations."""
    experts: str | None = None
    """How tokens choose experts, as `accelsim infer` takes it; absent: uniform."""
    plan: str | None = None
    """Devices of the system, as `accelsim infer` takes them; absent: one."""
    speculate: Drafting | None = None
    """A model that drafts; absent: none."""
    steps: Literal["exact", "interpolated"] = "interpolated"
    """Whether every step of the generation is simulated, or some with lines between them."""
