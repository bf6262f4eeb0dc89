"""A language model as it is served: its architecture, its formats, the load of its experts."""

from dataclasses import dataclass, field
from pathlib import Path

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture
from accelsim.models.expert_files import expert_load
from accelsim.models.expert_load import UNIFORM, ExpertLoad
from accelsim.models.feed_forward import ExpertFeedForward
from accelsim.models.kv_format import with_kv_in
from accelsim.models.linear_format import with_linears_in
from accelsim.models.loading import load_architecture


@dataclass(frozen=True, slots=True)
class Model:
    """A model, and what is asked of it in the place of what its file says."""

    source: Architecture | str | Path
    """An architecture, a shipped name, a config.json, or the folder of one."""
    weights: str | None = None
    """Format of the linear maps of layers, with one scale for each; None: that of the file."""
    kv: str | None = None
    """Format of the KV cache; None: that of activations."""
    experts: ExpertLoad | str | Path | None = None
    """How tokens choose experts: a load, or what `expert_load` takes; None: uniform."""

    architecture: Architecture = field(init=False, repr=False, compare=False)
    """The architecture in these formats."""
    expert_load: ExpertLoad = field(init=False, repr=False, compare=False)
    """How tokens choose experts; uniform in a model without experts as well."""

    def __post_init__(self) -> None:
        """Read the model.

        Raises what reading it raises, and WorkloadError for formats that are not known and for a
        load that fits none of the layers.
        """
        object.__setattr__(self, "architecture", self._in_its_formats())
        object.__setattr__(self, "expert_load", self._load())

    @property
    def name(self) -> str:
        """What reports call the model."""
        is_value = isinstance(self.source, Architecture)
        return self.architecture.name if is_value else str(self.source)

    def _in_its_formats(self) -> Architecture:
        source = self.source
        found = source if isinstance(source, Architecture) else load_architecture(source)
        if self.weights is not None:
            found = with_linears_in(found, self.weights)
        return found if self.kv is None else with_kv_in(found, self.kv)

    def _load(self) -> ExpertLoad:
        if self.experts is None:
            return UNIFORM
        load = self.experts if isinstance(self.experts, ExpertLoad) else expert_load(self.experts)
        architecture = self.architecture
        parts = {layer.feed_forward for layer in architecture.layers}
        routed = [part for part in parts if isinstance(part, ExpertFeedForward)]
        for part in routed:
            load.loads(1, part.experts, part.experts_per_token, 1)
        if not routed:
            raise WorkloadError(
                f"experts: found {self.experts} for model {architecture.name}, which has none, "
                f"allowed: only for a model with experts"
            )
        return load
