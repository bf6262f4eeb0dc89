"""How a step of a model is laid out, beside the model and its tokens."""

from dataclasses import dataclass

from accelsim.models.expert_load import UNIFORM, ExpertLoad
from accelsim.models.parallel import ONE_DEVICE, Parallel


@dataclass(frozen=True, slots=True)
class Plan:
    """What operations of a step depend on that neither the model nor the tokens say."""

    experts: ExpertLoad = UNIFORM
    """Which experts tokens choose."""
    draws: int = 2
    """Loads of experts that stand for those of all layers, where these are drawn."""
    gathers_rows: bool = False
    """Whether products of experts load rows of tokens from wherever they lie; else they are copied
    into the order of experts before."""
    parallel: Parallel = ONE_DEVICE
    """Over which devices."""


DEFAULT_PLAN = Plan()
