"""A layer of a model as a workload: its problems, and what each reads of those before it."""

from collections.abc import Iterator, Mapping, Sequence

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward
from accelsim.models.operations.parts import Setting, Uneven
from accelsim.models.operations.step import loads_of, of_layer
from accelsim.models.parallel import share_of
from accelsim.models.plan import DEFAULT_PLAN, Plan
from accelsim.models.step import Step
from accelsim.workload.base import TensorProblem
from accelsim.workload.collective import Collective
from accelsim.workload.flow import source_of
from accelsim.workload.problem import LayerPart, LayerProblem, Problem

MAX_TOKENS = 2**24
"""New tokens of a step: experts are drawn for each, and rows of 4,096 elements are 137 GB."""

Feeds = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Part -> its inputs -> what they may be read from, the first that is there."""


def layer_of(
    architecture: Architecture, step: Step, number: int = 0, plan: Plan = DEFAULT_PLAN
) -> LayerProblem:
    """Return layer `number` of a model in a step.

    Of a plan it is the share of one device, without collectives. Keys and values of a step that
    reads a cache come from the cache, not from the layer. Raises WorkloadError for a layer that is
    not there, and for a step of too many tokens.
    """
    if number >= len(architecture.layers):
        raise WorkloadError(
            f"layer: found {number}, allowed: 0 to {len(architecture.layers) - 1}, of the model"
        )
    if step.tokens > MAX_TOKENS:
        raise WorkloadError(f"layer: found {step.tokens} new tokens, allowed: up to {MAX_TOKENS}")
    if architecture.max_tokens is not None and step.longest > architecture.max_tokens:
        raise WorkloadError(
            f"layer: found {step.longest} new and cached tokens of a sequence, "
            f"allowed: {architecture.max_tokens}, the longest context of the model"
        )
    architecture = share_of(architecture, plan.parallel)
    at = Setting(architecture, plan.parallel.step_of(step), plan)
    layer = architecture.layers[number]
    feeds, parts = _feeds(layer), list[LayerPart]()
    (load,) = loads_of(layer, 1, at)
    for work in of_layer(layer, load, at):
        if isinstance(work, Collective):
            continue
        problem = work.problems[0] if isinstance(work, Uneven) else work
        earlier = [part.problem for part in parts]
        parts.append(LayerPart(problem=problem, reads=dict(_reads(problem, feeds, earlier))))
    name = f"layer {number} of {architecture.name}"
    return LayerProblem(kind="layer", name=name, problems=tuple(parts))


def _reads(
    problem: Problem, feeds: Feeds, earlier: Sequence[TensorProblem]
) -> Iterator[tuple[str, str]]:
    for name, texts in feeds.get(problem.name, {}).items():
        fitting = (text for text in texts if _fits(name, text, problem, earlier))
        if text := next(fitting, None):
            yield name, text


def _fits(name: str, text: str, problem: Problem, earlier: Sequence[TensorProblem]) -> bool:
    try:
        source_of(name, text, problem, earlier)
    except ValueError:
        return False
    return True


def _feeds(layer: Layer) -> Feeds:
    """Return what flows through a layer; inputs that are not named come from HBM."""
    normed = {name: f"norm of {name}.result" for name in ("attention", "feed-forward")}
    feeds: dict[str, Mapping[str, tuple[str, ...]]] = {
        "qkv": {"a": (normed["attention"],)},
        "norm behind attention": {"x": ("output",)},
        "norm of feed-forward": {
            "x": ("norm behind attention", "output"),
            "y": ("norm of attention.sum",),
        },
        "norm behind feed-forward": {"x": ("down",)},
        "gate-up": {"a": (normed["feed-forward"],)},
        "up": {"a": (normed["feed-forward"],)},
        "down": {"a": ("activation",)},
        "router": {"a": (normed["feed-forward"],)},
        "choice of experts": {"x": ("router",)},
        "copy of rows": {"x": (normed["feed-forward"],)},
        "experts gate-up": {"a": ("copy of rows",)},
        "experts down": {"a": ("experts activation",)},
        "sum of experts": {"x": ("experts down",), "y": ("choice of experts.result",)},
    }
    match layer.feed_forward:
        case DenseFeedForward() as dense:
            feeds["activation"] = _halves("gate-up", dense.width)
        case ExpertFeedForward() as sparse:
            feeds["experts activation"] = _halves("experts gate-up", sparse.expert.width)
            if sparse.shared:
                feeds["activation"] = _halves("gate-up", sparse.shared.width)
    if isinstance(layer.attention, GroupedAttention):
        feeds |= _grouped(layer.attention)
    return feeds


def _halves(name: str, width: int) -> Mapping[str, tuple[str, ...]]:
    """Return what an activation reads of a product: the gate, and right of it the way up."""
    return {"x": (f"{name}[0:{width}]",), "y": (f"{name}[{width}:{2 * width}]",)}


def _grouped(attention: GroupedAttention) -> Feeds:
    queries = attention.heads * attention.head_dim
    turned = queries + attention.kv_heads * attention.head_dim
    end = turned + attention.kv_heads * attention.value_dim
    heads = {
        "q": tuple(f"{part}[0:{queries}]" for part in ("rotary", "qkv")),
        "k": tuple(f"{part}[{queries}:{turned}]" for part in ("rotary", "qkv")),
        "v": (f"qkv[{turned}:{end}]",),
    }
    outputs = ("attention of prompts", "attention of steps")
    return {
        "norm of heads": {"x": (f"qkv[0:{turned}]",)},
        "kv_write": {"x": heads["k"], "y": heads["v"]},
        "rotary": {"x": ("norm of heads", f"qkv[0:{turned}]")},
        "attention of steps": {"q": heads["q"]},
        "attention of prompts": heads,
        "cast of attention": {"x": outputs},
        "output": {"a": ("cast of attention", *outputs)},
    }
