"""What a step of a model asks of a machine: operations, each so many times."""

from collections.abc import Iterator
from dataclasses import dataclass

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention, HeadNorm
from accelsim.models.feed_forward import DenseFeedForward
from accelsim.models.step import Sequences, Step
from accelsim.models.summary import layer_kinds
from accelsim.numerics.formats import Format
from accelsim.workload.attention import AttentionProblem, SequenceSpec
from accelsim.workload.problem import GemmProblem, Problem
from accelsim.workload.vector import VectorProblem

KV_PAGE_TOKENS = 16
"""Tokens of a block of the KV cache (vLLM's default)."""
_CACHE_PAGES = 1 << 13
"""Pages of the cache of one layer among which those of a step lie; at least as many as it has."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A problem that a step has so many times."""

    problem: Problem
    count: int = 1


def operations_of(architecture: Architecture, step: Step) -> tuple[Operation, ...]:
    """Return the operations of a step on one device, layers of one kind together.

    Q, K and V are one product, and so are the gate and the way up. Only sampled rows have logits.
    Formats are those of activations; recipes say in which formats products are computed. Raises
    WorkloadError for a part whose operations are not known.
    """
    if architecture.weights.quantized is not None:
        raise _unknown(architecture, f"weights in {architecture.weights.quantized}")
    if architecture.norm.has_mean:
        raise _unknown(architecture, "norms that take off the mean")
    fmt = architecture.weights.plain
    every = [
        _vector(
            "embedding", step.tokens, architecture.hidden, fmt, table_rows=architecture.vocabulary
        )
    ]
    operations = [Operation(each) for each in every]
    for layer, count in layer_kinds(architecture).items():
        problems = _of_layer(architecture, layer, step, fmt)
        operations += [Operation(problem, count) for problem in problems]
    if step.sampled_rows:
        operations += [Operation(each) for each in _head(architecture, step.sampled_rows, fmt)]
    return tuple(operations)


def _of_layer(
    architecture: Architecture, layer: Layer, step: Step, fmt: Format
) -> Iterator[Problem]:
    hidden, rows = architecture.hidden, step.tokens
    attention, part = layer.attention, layer.feed_forward
    if not isinstance(attention, GroupedAttention):
        raise _unknown(architecture, "latent attention")
    if not isinstance(part, DenseFeedForward):
        raise _unknown(architecture, "experts")
    if not part.is_gated or part.activation != "silu":
        raise _unknown(architecture, f"a feed-forward part with {part.activation}")
    if layer.norms != 2:
        raise _unknown(architecture, f"{layer.norms} norms in a layer")
    yield _vector("add_rmsnorm", rows, hidden, fmt, name="norm of attention")
    yield from _of_attention(architecture, attention, step, fmt)
    yield _vector("add_rmsnorm", rows, hidden, fmt, name="norm of feed-forward")
    yield _product("gate-up", rows, 2 * part.width, hidden, fmt)
    yield _vector("silu_mul", rows, part.width, fmt, name="activation")
    yield _product("down", rows, hidden, part.width, fmt)


def _of_attention(
    architecture: Architecture, attention: GroupedAttention, step: Step, fmt: Format
) -> Iterator[Problem]:
    hidden, rows = architecture.hidden, step.tokens
    heads = attention.heads + attention.kv_heads
    outputs = heads * attention.head_dim + attention.kv_heads * attention.value_dim
    if attention.has_sinks:
        raise _unknown(architecture, "sinks of heads")
    if attention.value_dim != attention.head_dim:
        raise _unknown(architecture, "keys wider than values")
    yield _product("qkv", rows, outputs, hidden, fmt)
    if attention.head_norm is HeadNorm.HEAD:
        yield _vector("rmsnorm", rows * heads, attention.head_dim, fmt, name="norm of heads")
    elif attention.head_norm is not HeadNorm.NONE:
        raise _unknown(architecture, f"a norm of Q and K by {attention.head_norm}")
    if attention.rotary_dim:
        positions = max(each.cached + each.new for each in step.sequences)
        yield _vector(
            "rotary",
            rows,
            heads * attention.rotary_dim,
            fmt,
            head_dim=attention.rotary_dim,
            table_rows=positions,
        )
    yield _kv_write(attention, step, fmt)
    yield from _scores(attention, step, fmt)
    yield _product("output", rows, hidden, attention.heads * attention.value_dim, fmt)


def _kv_write(attention: GroupedAttention, step: Step, fmt: Format) -> Problem:
    """Return the writing of new keys and values: whole pages of prompts, or a token a page."""
    page = KV_PAGE_TOKENS if any(each.new > 1 for each in step.sequences) else 1
    pages = max(_CACHE_PAGES, -(-step.tokens // page))
    cols = attention.kv_heads * attention.head_dim
    return _vector("kv_write", step.tokens, cols, fmt, table_rows=pages * page, page=page)


def _scores(attention: GroupedAttention, step: Step, fmt: Format) -> Iterator[Problem]:
    """Yield the attention of sequences with one new token, and that of those with more.

    They run different kernels: a decode kernel splits the keys, a prefill kernel the queries.
    """
    pieces = [piece for each in step.sequences for piece in _pieces(attention, each)]
    for name, chosen in (
        ("attention of steps", [each for each in pieces if each.new == 1]),
        ("attention of prompts", [each for each in pieces if each.new > 1]),
    ):
        if chosen:
            yield _attention(name, attention, chosen, fmt)


def _pieces(attention: GroupedAttention, sequences: Sequences) -> Iterator[Sequences]:
    """Yield the parts of sequences that read keys of one range: cut at the ends of chunks."""
    if attention.chunk is None:
        yield sequences
        return
    at, end = sequences.cached, sequences.cached + sequences.new
    while at < end:
        inside = at % attention.chunk
        new = min(end - at, attention.chunk - inside)
        yield Sequences(new, inside, sequences.count, sampled=0)
        at += new


def _attention(
    name: str, attention: GroupedAttention, chosen: list[Sequences], fmt: Format
) -> Problem:
    lengths = (
        {
            "batch": chosen[0].count,
            "q_len": chosen[0].new,
            "kv_len": chosen[0].cached + chosen[0].new,
        }
        if len(chosen) == 1
        else {
            "sequences": tuple(
                SequenceSpec(new=each.new, cached=each.cached, count=each.count) for each in chosen
            )
        }
    )
    return AttentionProblem(
        kind="attention",
        name=name,
        q_heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        causal=any(each.new > 1 for each in chosen),
        window=attention.window,
        softcap=attention.softcap,
        dtype=fmt,
        **lengths,
    )


def _head(architecture: Architecture, rows: int, fmt: Format) -> Iterator[Problem]:
    yield _vector("rmsnorm", rows, architecture.hidden, fmt, name="last norm")
    yield _product("head", rows, architecture.vocabulary, architecture.hidden, fmt)
    yield _vector("argmax", rows, architecture.vocabulary, fmt, name="sampling")


def _product(name: str, m: int, n: int, k: int, fmt: Format) -> Problem:
    return GemmProblem(kind="gemm", name=name, m=m, n=n, k=k, dtype=fmt)


def _vector(
    function: str, rows: int, cols: int, fmt: Format, name: str | None = None, **more: int
) -> Problem:
    return VectorProblem.model_validate(
        {
            "kind": "vector",
            "name": name or function,
            "function": function,
            "rows": rows,
            "cols": cols,
            "dtype": fmt,
            **more,
        }
    )


def _unknown(architecture: Architecture, what: str) -> WorkloadError:
    return WorkloadError(
        f"model {architecture.family}: steps of models with {what} are not known yet"
    )
