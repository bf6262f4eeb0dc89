"""Where the tensors of a problem come from: a seeded family, a file, or the real model."""

from typing import Annotated, Literal

from pydantic import Field

from accelsim.config.spec import Seed, SizeOrZero, Spec, Value, ValueOrZero


class UniformSource(Spec):
    """Values mean + U(-amplitude, amplitude); PASA's uniform benchmark (arXiv 2503.01873)."""

    source: Literal["uniform"]
    """Family of seeded values."""
    mean: Value = 0.0
    """Center of the values."""
    amplitude: ValueOrZero = 1.0
    """Largest distance from the center."""
    seed: Seed = 0
    """Seed of the generator; every tensor draws from its own stream."""


class HybridSource(Spec):
    """Values N(mean, 1) + N(0, amplitude) x Bernoulli(0.001): normal values with rare outliers."""

    source: Literal["hybrid"]
    """Family of seeded values."""
    mean: Value = 0.0
    """Center of the values."""
    amplitude: ValueOrZero = 10.0
    """Standard deviation of what an outlier adds."""
    seed: Seed = 0
    """Seed of the generator; every tensor draws from its own stream."""


class FileSource(Spec):
    """Arrays of an .npz or .safetensors file: q, k, v; a and b for products; x, y for vectors."""

    source: Literal["file"]
    """Values are read from a file."""
    path: str = Field(min_length=1)
    """File, relative to the folder of the workload file or to the working directory."""
    prefix: str = ""
    """Text before the array names in the file, such as `layer11.` for `layer11.q`."""


class _ModelSource(Spec):
    source: Literal["model"]
    """Values are captured from a run of a real language model."""
    model: str = "smollm2"
    """Name of a model that `accelsim model fetch` can fetch, or a path, found like that of a file
    source: a GGUF file, or a folder with config.json."""
    layer: SizeOrZero
    """Decoder layer to capture, counted from 0."""
    text: str | None = None
    """Text file to run, found like the path of a file source; absent: Python's own help topics."""


class ModelHeadsSource(_ModelSource):
    """Q, K and V of the first kv_len tokens of a text; Q holds the last of them, steps x q_len."""

    heads: tuple[SizeOrZero, ...] | None = Field(default=None, min_length=1)
    """KV heads to take, each with its group of query heads; absent: all of them."""


class ModelLinearSource(_ModelSource):
    """Input rows and weights of one linear: A holds the first m tokens, B is [in, out]."""

    linear: Literal["q", "k", "v", "o", "gate", "up", "down"]
    """Which linear of the layer."""


AttentionSource = Annotated[
    UniformSource | HybridSource | FileSource | ModelHeadsSource, Field(discriminator="source")
]
GemmSource = Annotated[
    UniformSource | HybridSource | FileSource | ModelLinearSource, Field(discriminator="source")
]
VectorSource = Annotated[UniformSource | HybridSource | FileSource, Field(discriminator="source")]
