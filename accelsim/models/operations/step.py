"""The operations of a step: those of its layers, and what is before and behind them."""

from collections.abc import Iterator

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention
from accelsim.models.feed_forward import DenseFeedForward
from accelsim.models.operations import dense_feed_forward, grouped_attention
from accelsim.models.operations.parts import Operation, Setting
from accelsim.models.step import Step
from accelsim.models.summary import layer_kinds
from accelsim.numerics.formats import Format
from accelsim.workload.problem import GemmProblem, Problem


def operations_of(architecture: Architecture, step: Step) -> tuple[Operation, ...]:
    """Return the operations of a step on one device, layers of one kind together.

    Q, K and V are one product, and so are the gate and the way up. Only sampled rows have logits.
    Formats are those of activations; recipes say in which formats products are computed. With
    weights in FP8 what products of layers read is in FP8, too: norms and activations store it so,
    and attention is followed by a cast. Raises WorkloadError for a part whose operations are not
    known.
    """
    at = Setting(architecture, step)
    if architecture.norm.has_mean:
        raise at.unknown("norms that take off the mean")
    table_rows = architecture.vocabulary
    operations = [Operation(at.vector("embedding", at.rows, at.hidden, table_rows=table_rows))]
    for layer, count in layer_kinds(architecture).items():
        operations += [Operation(problem, count) for problem in of_layer(layer, at)]
    if step.sampled_rows:
        operations += [Operation(each) for each in _head(at)]
    return tuple(operations)


def of_layer(layer: Layer, at: Setting) -> Iterator[Problem]:
    """Yield the problems of a layer in the order they run; raises WorkloadError."""
    if layer.norms != 2:
        raise at.unknown(f"{layer.norms} norms in a layer")
    yield at.operand("add_rmsnorm", at.hidden, name="norm of attention")
    yield from _of_attention(layer, at)
    yield at.operand("add_rmsnorm", at.hidden, name="norm of feed-forward")
    yield from _of_feed_forward(layer, at)


def _of_attention(layer: Layer, at: Setting) -> Iterator[Problem]:
    match layer.attention:
        case GroupedAttention() as grouped:
            yield from grouped_attention.operations(grouped, at)
        case _:
            raise at.unknown("latent attention")


def _of_feed_forward(layer: Layer, at: Setting) -> Iterator[Problem]:
    match layer.feed_forward:
        case DenseFeedForward() as dense:
            yield from dense_feed_forward.operations(dense, at)
        case _:
            raise at.unknown("experts")


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
