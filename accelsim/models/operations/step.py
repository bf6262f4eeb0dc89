"""The operations of a step: those of its layers, and what is before and behind them."""

from collections import Counter
from collections.abc import Iterator

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention
from accelsim.models.expert_load import Rows
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward
from accelsim.models.operations import dense_feed_forward, experts, grouped_attention
from accelsim.models.operations.parts import Operation, Setting
from accelsim.models.plan import DEFAULT_PLAN, Plan
from accelsim.models.step import Step
from accelsim.models.summary import layer_kinds
from accelsim.numerics.formats import Format
from accelsim.workload.problem import GemmProblem, Problem


def operations_of(
    architecture: Architecture, step: Step, plan: Plan = DEFAULT_PLAN
) -> tuple[Operation, ...]:
    """Return the operations of a step on one device, layers of one kind together.

    Q, K and V are one product, and so are the gate and the way up. Only sampled rows have logits.
    Layers with experts draw their loads independently; some draws stand for all of them. Formats
    are those of activations; recipes say in which formats products are computed. With weights in
    FP8 what products of layers read is in FP8, too: norms and activations store it so, and
    attention is followed by a cast. Raises WorkloadError for a part whose operations are not known.
    """
    at = Setting(architecture, step, plan)
    if architecture.norm.has_mean:
        raise at.unknown("norms that take off the mean")
    table_rows = architecture.vocabulary
    operations = [Operation(at.vector("embedding", at.rows, at.hidden, table_rows=table_rows))]
    for layer, count in layer_kinds(architecture).items():
        operations += _of_layers(layer, count, at)
    if step.sampled_rows:
        operations += [Operation(each) for each in _head(at)]
    return tuple(operations)


def _of_layers(layer: Layer, count: int, at: Setting) -> list[Operation]:
    """Return the operations of equal layers, which differ in nothing but the loads of experts."""
    loads = loads_of(layer, count, at)
    counts: Counter[Problem] = Counter()
    for number, load in enumerate(loads):
        share = len(range(number, count, len(loads)))
        for problem in of_layer(layer, load, at):
            counts[problem] += share
    return [Operation(problem, times) for problem, times in counts.items()]


def loads_of(layer: Layer, count: int, at: Setting) -> tuple[Rows, ...]:
    """Return the loads that stand for those of equal layers; without experts one of no rows."""
    part = layer.feed_forward
    if not isinstance(part, ExpertFeedForward):
        return ((),)
    draws = min(at.plan.draws, count)
    return at.plan.experts.loads(at.rows, part.experts, part.experts_per_token, draws)


def of_layer(layer: Layer, load: Rows, at: Setting) -> Iterator[Problem]:
    """Yield the problems of a layer in the order they run; raises WorkloadError.

    load: rows of each expert, if it has any.
    """
    if layer.norms != 2:
        raise at.unknown(f"{layer.norms} norms in a layer")
    yield at.operand("add_rmsnorm", at.hidden, name="norm of attention")
    yield from _of_attention(layer, at)
    yield at.operand("add_rmsnorm", at.hidden, name="norm of feed-forward")
    yield from _of_feed_forward(layer, load, at)


def _of_attention(layer: Layer, at: Setting) -> Iterator[Problem]:
    match layer.attention:
        case GroupedAttention() as grouped:
            yield from grouped_attention.operations(grouped, at)
        case _:
            raise at.unknown("latent attention")


def _of_feed_forward(layer: Layer, load: Rows, at: Setting) -> Iterator[Problem]:
    match layer.feed_forward:
        case DenseFeedForward() as dense:
            yield from dense_feed_forward.operations(dense, at)
        case ExpertFeedForward() as sparse:
            yield from experts.operations(sparse, at, load)


def _format_of_head(at: Setting) -> Format:
    fmt = at.architecture.weights.format_of("lm_head")
    if fmt != at.fmt and not at.architecture.has_tied_head:
        raise at.unknown(f"a head in {fmt}")
    return at.fmt


def _head(at: Setting) -> Iterator[Problem]:
    rows, vocabulary = at.step.sampled_rows, at.architecture.vocabulary
    yield at.vector("rmsnorm", rows, at.hidden, name="last norm")
    yield GemmProblem(
        kind="gemm", name="head", m=rows, n=vocabulary, k=at.hidden, dtype=_format_of_head(at)
    )
    yield at.vector("argmax", rows, vocabulary, name="sampling")
