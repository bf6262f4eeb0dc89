"""The operations of a step: those of its layers, and what is before and behind them."""

from collections import Counter
from collections.abc import Iterator

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention, LatentAttention
from accelsim.models.expert_load import Rows
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward
from accelsim.models.operations import (
    dense_feed_forward,
    experts,
    grouped_attention,
    latent_attention,
)
from accelsim.models.operations.parts import Operation, Setting, Work
from accelsim.models.parallel import share_of, stages_of
from accelsim.models.plan import DEFAULT_PLAN, Plan
from accelsim.models.step import Step
from accelsim.models.summary import layer_kinds
from accelsim.units import ceil_div
from accelsim.workload.collective import Collective, CollectiveKind
from accelsim.workload.problem import Problem


def operations_of(
    architecture: Architecture, step: Step, plan: Plan = DEFAULT_PLAN
) -> tuple[Operation, ...]:
    """Return the operations of a step on one device of the plan, layers of one kind together.

    They are those of its share of the model (`share_of`), and the collectives with other devices:
    sums of rows behind both parts of a layer, and the logits of all.
    Q, K and V are one product, and so are the gate and the way up. Only sampled rows have logits.
    Layers with experts draw their loads independently; some draws stand for all of them. Formats
    are those of activations; recipes say in which formats products are computed. With
    weights in FP8 what products of layers read is in FP8, too: norms and activations store it so,
    and attention is followed by a cast. Raises WorkloadError for a part whose operations are not
    known.
    """
    architecture = share_of(architecture, plan.parallel)
    at = Setting(architecture, plan.parallel.step_of(step), plan)
    ways = plan.parallel.pipeline - 1
    if ways:
        stages_of(architecture, plan.parallel)
    between = [_to_next_stage(at, ways)] if ways else []
    return (*_begin(at), *_of_all_layers(at), *between, *_end(at))


def operations_by_stage(
    architecture: Architecture, step: Step, plan: Plan
) -> tuple[tuple[Operation, ...], ...]:
    """Return the operations of each stage of a plan on one of its devices.

    A stage but the last sends its rows to the next. Raises WorkloadError, as `operations_of`.
    """
    parts = stages_of(share_of(architecture, plan.parallel), plan.parallel)
    step, last = plan.parallel.step_of(step), len(parts) - 1
    found = []
    for number, part in enumerate(parts):
        at = Setting(part, step, plan)
        begin = _begin(at) if number == 0 else ()
        end = _end(at) if number == last else [_to_next_stage(at, 1)]
        found.append((*begin, *_of_all_layers(at), *end))
    return tuple(found)


def _of_all_layers(at: Setting) -> Iterator[Operation]:
    for layer, count in layer_kinds(at.architecture).items():
        yield from _of_layers(layer, count, at)


def _end(at: Setting) -> Iterator[Operation]:
    return (Operation(each) for each in (_head(at) if at.step.sampled_rows else ()))


def _begin(at: Setting) -> Iterator[Operation]:
    return (Operation(each) for each in _tables(at))


def _tables(at: Setting) -> Iterator[Problem]:
    """Yield what makes the rows of the first layer, whose first norm adds those of positions."""
    model = at.architecture
    cols = model.embedding_dim or at.hidden
    yield at.vector("embedding", at.rows, cols, table_rows=model.vocabulary)
    if model.learned_positions:
        yield at.vector(
            "embedding",
            at.rows,
            at.hidden,
            "positions",
            table_rows=model.learned_positions,
            order="sequential",
        )
    if model.embedding_dim:
        yield at.outer_product("project in", at.rows, at.hidden, model.embedding_dim)


def _to_next_stage(at: Setting, ways: int) -> Operation:
    """Return the rows of all devices of a stage on their way to the next one, so many times."""
    size_bytes = at.rows * at.fmt.row_bytes(at.hidden)
    group = at.plan.parallel.stage_devices
    return Operation(Collective("send", "rows to the next stage", size_bytes, 2, group), ways)


def _of_layers(layer: Layer, count: int, at: Setting) -> list[Operation]:
    """Return the operations of equal layers, which differ in nothing but the loads of experts."""
    loads = loads_of(layer, count, at)
    counts: Counter[Work] = Counter()
    for number, load in enumerate(loads):
        share = len(range(number, count, len(loads)))
        for problem in of_layer(layer, load, at):
            counts[problem] += share
    return [Operation.of(work, times) for work, times in counts.items()]


def loads_of(layer: Layer, count: int, at: Setting) -> tuple[Rows, ...]:
    """Return the loads that stand for those of equal layers; without experts one of no rows."""
    part = layer.feed_forward
    if not isinstance(part, ExpertFeedForward):
        return ((),)
    draws = min(at.plan.draws, count)
    rows = at.rows * (at.plan.parallel.data if at.plan.parallel.dispatches else 1)
    return at.plan.experts.loads(rows, part.experts, part.experts_per_token, draws)


def of_layer(layer: Layer, load: Rows, at: Setting) -> Iterator[Work]:
    """Yield the operations of both parts, each with a norm that adds the residual.

    load: rows of each expert, where there are some. Four norms: the rows of each part have one
    more before they are added.
    """
    if layer.norms not in (2, 4):
        raise at.unknown(f"{layer.norms} norms in a layer")
    for name, operations in (
        ("attention", _of_attention(layer, at)),
        ("feed-forward", _of_feed_forward(layer, load, at)),
    ):
        rows = ceil_div(at.rows, at.plan.parallel.sequence)
        yield at.norm(f"norm of {name}", adds=True, rows=rows)
        if at.plan.parallel.sequence > 1:
            yield at.among_tensor("all_gather", f"rows of {name}", at.rows, at.hidden)
        yield from operations
        if at.plan.parallel.tensor > 1:
            yield at.among_tensor(_sum_kind(at), f"sum of {name}", at.rows, at.hidden)
        if layer.norms == 4:
            yield at.norm(f"norm behind {name}", rows=rows)


def _sum_kind(at: Setting) -> CollectiveKind:
    """Return how sums of rows come about: everywhere, or of each device's rows only."""
    return "reduce_scatter" if at.plan.parallel.sequence > 1 else "all_reduce"


def _of_attention(layer: Layer, at: Setting) -> Iterator[Problem]:
    match layer.attention:
        case GroupedAttention() as grouped:
            yield from grouped_attention.operations(grouped, at)
        case LatentAttention() as latent:
            yield from latent_attention.operations(latent, at)


def _of_feed_forward(layer: Layer, load: Rows, at: Setting) -> Iterator[Work]:
    match layer.feed_forward:
        case DenseFeedForward() as dense:
            yield from dense_feed_forward.operations(dense, at)
        case ExpertFeedForward() as sparse:
            yield from experts.operations(sparse, at, load)


def _head(at: Setting) -> Iterator[Problem | Collective]:
    """Yield what makes the logits of sampled rows and the next tokens.

    Each device of a plan makes the logits of a part of the vocabulary, and all get all.
    """
    model, rows = at.architecture, at.step.sampled_rows
    fmt = model.weights.format_of("lm_head")
    if fmt != at.fmt and not model.has_tied_head:
        raise at.unknown(f"a head in {fmt}")
    if at.plan.parallel.sequence > 1:
        yield at.among_tensor("all_gather", "rows of the head", at.rows, at.hidden)
    if model.has_final_norm:
        yield at.norm("last norm", rows=rows)
    if model.embedding_dim:
        yield at.outer_product("project out", rows, model.embedding_dim, at.hidden)
    devices = at.plan.parallel.tensor
    cols = ceil_div(model.vocabulary, devices)
    yield at.outer_product("head", rows, cols, model.embedding_dim or at.hidden)
    if devices > 1:
        yield at.among_tensor("all_gather", "logits of all", rows, devices * cols)
    if model.logit_softcap:
        cap = model.logit_softcap
        yield at.vector("softcap", rows, model.vocabulary, "cap of logits", softcap=cap)
    yield at.vector("argmax", rows, model.vocabulary, name="sampling")
