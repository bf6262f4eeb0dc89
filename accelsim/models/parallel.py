"""How a model is laid out over devices: what each of them has, and who works together."""

from dataclasses import dataclass, replace

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import Attention, GroupedAttention, HeadNorm
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward, FeedForward
from accelsim.runtime.kept import once_for_each

_NAMES = {"tp": "tensor"}
"""Short names, as serving engines have them."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Devices along each way in which a model can be split. Neighbours are tensor-parallel."""

    tensor: int = 1
    """Devices that share each matrix: heads of attention, and the inner rows of feed-forward."""

    def __post_init__(self) -> None:
        """Refuse what is no plan; raises WorkloadError."""
        for short, name in _NAMES.items():
            if getattr(self, name) < 1:
                raise WorkloadError(
                    f"plan: {short}: found {getattr(self, name)}, allowed: 1 or more"
                )

    @property
    def devices(self) -> int:
        """Devices of the plan."""
        return self.tensor

    def __str__(self) -> str:
        """Return the plan as it is written: what is more than one."""
        named = ((short, getattr(self, name)) for short, name in _NAMES.items())
        return ",".join(f"{short}={size}" for short, size in named if size != 1) or "tp=1"


ONE_DEVICE = Parallel()


def parse_parallel(text: str) -> Parallel:
    """Return the plan of a text such as `tp=2`; raises WorkloadError for what is none."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        short, _, number = (each.strip() for each in part.partition("="))
        if short not in _NAMES:
            raise WorkloadError(
                f"plan: found '{short}' in '{text}', allowed: {', '.join(_NAMES)}, each with a "
                f"number of devices, as in tp=2"
            )
        if short in sizes:
            raise WorkloadError(f"plan: found {short} twice in '{text}', allowed: once")
        if not (number.isascii() and number.isdigit()):
            raise WorkloadError(
                f"plan: {short}: found '{number}', allowed: a number of devices, as in tp=2"
            )
        sizes[short] = int(number)
    return Parallel(**{_NAMES[short]: size for short, size in sizes.items()})


@once_for_each
def share_of(architecture: Architecture, parallel: Parallel) -> Architecture:
    """Return what a device has of a model: its heads and inner rows; rows of tokens are whole.

    Heads of K and V beyond their number are on several devices, and so are the latents of MLA,
    routers, norms and tables. The head of the model stays whole here; each device has a part of its
    columns. Raises WorkloadError for sizes that the plan does not divide.
    """
    if parallel.tensor == 1:
        return architecture
    known: dict[Layer, Layer] = {}
    for layer in architecture.layers:
        if layer not in known:
            known[layer] = replace(
                layer,
                attention=_attention(architecture, layer.attention, parallel.tensor),
                feed_forward=_feed_forward(architecture, layer.feed_forward, parallel.tensor),
            )
    return replace(architecture, layers=tuple(known[layer] for layer in architecture.layers))


def _attention(architecture: Architecture, whole: Attention, count: int) -> Attention:
    heads = _part(architecture, "heads", whole.heads, count)
    if not isinstance(whole, GroupedAttention):
        return replace(whole, heads=heads)
    if whole.head_norm is HeadNorm.ROW:
        raise WorkloadError(
            f"plan: tp={count}: found norms of whole rows of Q and K in model "
            f"{architecture.family}, allowed: tp=1"
        )
    if count % whole.kv_heads == 0:
        return replace(whole, heads=heads, kv_heads=1)
    return replace(
        whole, heads=heads, kv_heads=_part(architecture, "KV heads", whole.kv_heads, count)
    )


def _feed_forward(architecture: Architecture, whole: FeedForward, count: int) -> FeedForward:
    def narrowed(part: DenseFeedForward, name: str) -> DenseFeedForward:
        return replace(part, width=_part(architecture, name, part.width, count))

    if isinstance(whole, ExpertFeedForward):
        shared = whole.shared and narrowed(whole.shared, "rows within the shared experts")
        return replace(whole, expert=narrowed(whole.expert, "rows within an expert"), shared=shared)
    return narrowed(whole, "rows within the feed-forward part")


def _part(architecture: Architecture, name: str, whole: int, count: int) -> int:
    if whole % count:
        raise WorkloadError(
            f"plan: tp={count}: found {whole} {name} in model {architecture.family}, "
            f"allowed: a number of devices that divides them"
        )
    return whole // count
