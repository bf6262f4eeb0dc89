"""How a model is laid out over devices: what each of them has, and who works together."""

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import Attention, GroupedAttention, HeadNorm
from accelsim.models.expert_load import Rows
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward, FeedForward
from accelsim.models.step import Step
from accelsim.runtime.kept import once_for_each

_NAMES = {"tp": "tensor", "pp": "pipeline", "dp": "data", "ep": "expert", "sp": "sequence"}
"""Short names, as serving engines have them."""
_MICRO, _OVERLAP = "mb", "overlap"
_SEED = 0


@dataclass(frozen=True, slots=True)
class Parallel:
    """Devices along each way in which a model can be split. Neighbours are tensor-parallel."""

    tensor: int = 1
    """Devices that share each matrix: heads of attention, and the inner rows of feed-forward."""
    pipeline: int = 1
    """Stages, each with some of the layers."""
    data: int = 1
    """Copies of attention and dense parts, each with some of the sequences."""
    expert: int = 1
    """Devices that share the experts of a layer, each with some whole ones or parts of some."""
    sequence: int = 1
    """Devices that share the rows between parts: those that share matrices, or 1 for none."""
    microbatches: int = 1
    """Parts of the sequences of a step that are in the stages at once, one in each."""
    overlaps: bool = False
    """Whether collectives run under the arithmetic, as of another half of the batch."""

    def __post_init__(self) -> None:
        """Refuse what is no plan; raises WorkloadError."""
        for short, name in _NAMES.items():
            if getattr(self, name) < 1:
                raise WorkloadError(
                    f"plan: {short}: found {getattr(self, name)}, allowed: 1 or more"
                )
        if self.microbatches < 1 or (self.microbatches > 1 and self.pipeline == 1):
            raise WorkloadError(
                f"plan: {_MICRO}={self.microbatches}: found pp={self.pipeline}, allowed: 1 or more "
                f"micro-batches with stages, as in pp=4,{_MICRO}=8, or 1"
            )
        if self.sequence not in (1, self.tensor):
            raise WorkloadError(
                f"plan: sp={self.sequence}: found tp={self.tensor}, allowed: 1 or as tp"
            )
        stage = self.tensor * self.data
        fits = self.expert in (1, stage) or (self.data == 1 and self.tensor % self.expert == 0)
        if not fits:
            raise WorkloadError(
                f"plan: ep={self.expert}: found {stage} devices that could share experts "
                f"(tp={self.tensor}, dp={self.data}), allowed: 1, {stage}, or without dp a divisor"
            )

    @property
    def devices(self) -> int:
        """Devices of the plan."""
        return self.tensor * self.data * self.pipeline

    @property
    def stage_devices(self) -> int:
        """Devices of a stage, which work at the same time."""
        return self.tensor * self.data

    @property
    def inner_of_experts(self) -> int:
        """Devices that share the inner rows of one expert."""
        return self.tensor if self.expert == 1 else self.stage_devices // self.expert

    @property
    def dispatches(self) -> bool:
        """Whether rows travel to their experts, as the devices of these have other rows."""
        return self.expert > 1 and self.data > 1

    def step_of(self, step: Step) -> Step:
        """Return the part of a step that is in a copy of a stage at once; raises WorkloadError."""
        parts = self.data * self.microbatches
        if parts == 1:
            return step
        sizes = {"dp": self.data, _MICRO: self.microbatches}
        own = [short for short, size in sizes.items() if size > 1]
        for each in step.sequences:
            if each.count % parts:
                raise WorkloadError(
                    f"plan: {','.join(f'{short}={sizes[short]}' for short in own)}: found "
                    f"{each.count} equal sequences in a step, allowed: a number that "
                    f"{' x '.join(own)} divides"
                )
        return Step(tuple(replace(each, count=each.count // parts) for each in step.sequences))

    def ranks_of(self, load: Rows) -> tuple[Rows, ...]:
        """Return the rows of the experts of each device, as many experts each.

        Loads have falling rows, so experts are put in a random order first, always the same one.
        """
        if self.expert == 1:
            return (load,)
        order = np.random.default_rng([_SEED, len(load), self.expert]).permutation(len(load))
        each = len(load) // self.expert
        return tuple(
            tuple(sorted((load[number] for number in order[first : first + each]), reverse=True))
            for first in range(0, len(load), each)
        )

    def __str__(self) -> str:
        """Return the plan as it is written: what is more than one."""
        sizes = {short: getattr(self, name) for short, name in _NAMES.items()}
        named = (sizes | {_MICRO: self.microbatches}).items()
        parts = [f"{short}={size}" for short, size in named if size != 1]
        return ",".join([*parts, *([_OVERLAP] if self.overlaps else [])]) or "tp=1"


ONE_DEVICE = Parallel()


def parse_parallel(text: str) -> Parallel:
    """Return the plan of a text such as `tp=2,ep=4`; raises WorkloadError for what is none.

    Experts on more devices than share a matrix are on several copies: this one has dp=2.
    """
    sizes: dict[str, int] = {}
    parts = [each.strip() for each in text.split(",")]
    for part in (each for each in parts if each != _OVERLAP):
        short, _, number = (each.strip() for each in part.partition("="))
        if short not in (*_NAMES, _MICRO):
            raise WorkloadError(
                f"plan: found '{short}' in '{text}', allowed: {', '.join(_NAMES)}, each with a "
                f"number of devices, as in tp=2, {_MICRO} with a number of micro-batches, and "
                f"{_OVERLAP}"
            )
        if short in sizes:
            raise WorkloadError(f"plan: found {short} twice in '{text}', allowed: once")
        if not (number.isascii() and number.isdigit()):
            raise WorkloadError(f"plan: {short}: found '{number}', allowed: a number, as in tp=2")
        sizes[short] = int(number)
    tensor, expert = max(1, sizes.get("tp", 1)), sizes.get("ep", 1)
    if "dp" not in sizes and expert > tensor and expert % tensor == 0:
        sizes["dp"] = expert // tensor
    names = _NAMES | {_MICRO: "microbatches"}
    named = {names[short]: size for short, size in sizes.items()}
    return Parallel(**named, overlaps=_OVERLAP in parts)


def stages_of(architecture: Architecture, parallel: Parallel) -> tuple[Architecture, ...]:
    """Return the layers of each stage: as many each, and one more in those before the last.

    Which stages have one more is as in vLLM (`get_pp_indices`). Raises WorkloadError for more
    stages than layers.
    """
    layers, count = architecture.layers, parallel.pipeline
    if count > len(layers):
        raise WorkloadError(
            f"plan: pp={count}: found {len(layers)} layers in model {architecture.name}, "
            f"allowed: at most as many stages"
        )
    sizes = [len(layers) // count] * count
    for number in range(len(layers) % count):
        sizes[-2 - number] += 1
    ends = list(accumulate(sizes))
    return tuple(
        replace(architecture, layers=layers[end - size : end])
        for size, end in zip(sizes, ends, strict=True)
    )


@once_for_each
def share_of(architecture: Architecture, parallel: Parallel) -> Architecture:
    """Return what a device has of a model: its heads and inner rows; rows of tokens are whole.

    Heads of K and V beyond their number are on several devices, and so are the latents of MLA,
    routers, norms and tables. The head of the model stays whole here; each device has a part of its
    columns. Raises WorkloadError for sizes that the plan does not divide.
    """
    if parallel.stage_devices == 1:
        return architecture
    known: dict[Layer, Layer] = {}
    for layer in architecture.layers:
        if layer not in known:
            known[layer] = replace(
                layer,
                attention=_attention(architecture, layer.attention, parallel.tensor),
                feed_forward=_feed_forward(architecture, layer.feed_forward, parallel),
            )
    return replace(architecture, layers=tuple(known[layer] for layer in architecture.layers))


def _attention(architecture: Architecture, whole: Attention, count: int) -> Attention:
    heads = _part(architecture, "heads", whole.heads, count)
    if not isinstance(whole, GroupedAttention):
        return replace(whole, heads=heads)
    if whole.head_norm is HeadNorm.ROW:
        raise WorkloadError(
            f"plan: tp={count}: found norms of whole rows of Q and K in model "
            f"{architecture.name}, allowed: tp=1"
        )
    if count % whole.kv_heads == 0:
        return replace(whole, heads=heads, kv_heads=1)
    return replace(
        whole, heads=heads, kv_heads=_part(architecture, "KV heads", whole.kv_heads, count)
    )


def _feed_forward(
    architecture: Architecture, whole: FeedForward, parallel: Parallel
) -> FeedForward:
    def narrowed(part: DenseFeedForward, name: str, count: int = 0) -> DenseFeedForward:
        width = _part(architecture, name, part.width, count or parallel.tensor)
        return replace(part, width=width)

    if isinstance(whole, ExpertFeedForward):
        if whole.experts % parallel.expert:
            raise WorkloadError(
                f"plan: ep={parallel.expert}: found {whole.experts} experts in model "
                f"{architecture.name}, allowed: a number of devices that divides them"
            )
        shared = whole.shared and narrowed(whole.shared, "rows within the shared experts")
        count = parallel.inner_of_experts
        return replace(
            whole, expert=narrowed(whole.expert, "rows within an expert", count), shared=shared
        )
    return narrowed(whole, "rows within the feed-forward part")


def _part(architecture: Architecture, name: str, whole: int, count: int) -> int:
    if whole % count:
        raise WorkloadError(
            f"plan: tp={count}: found {whole} {name} in model {architecture.name}, "
            f"allowed: a number of devices that divides them"
        )
    return whole // count
