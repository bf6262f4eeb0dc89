"""The operations of latent attention (MLA), in the form that takes fewer MACs.

Compute form: latents of all tokens are projected up to keys and values of each head, and attention
is that of many heads. Absorbed form: the query goes through the projection of the keys instead, so
that attention reads the latents, and its output goes through that of the values. Sources:
DeepSeek-V2, 2024, section 2.1.2 and appendix C; vLLM, v1/attention/backends/mla/common.py.
"""

from collections.abc import Iterator

from accelsim.models.attention import LatentAttention
from accelsim.models.operations.kv_cache import kv_read, kv_write
from accelsim.models.operations.parts import Setting
from accelsim.models.operations.scores import scores
from accelsim.models.step import Sequences
from accelsim.workload.grouped import GroupedGemmProblem
from accelsim.workload.problem import Problem


def operations(attention: LatentAttention, at: Setting) -> Iterator[Problem]:
    """Yield what lies between the norm of attention and the next residual.

    Raises WorkloadError for an indexer, whose operations are not known.
    """
    if attention.indexer or attention.reads_selection:
        raise at.unknown("an indexer of keys")
    if at.linear_fmt != at.fmt:
        raise at.unknown(f"latent attention with weights in {at.linear_fmt}")
    if at.kv_fmt:
        raise at.unknown(f"latent attention with a KV cache in {at.kv_fmt}")
    heads, rotated = attention.heads, attention.rotary_dim
    kept = attention.latent_dim + rotated
    yield from _projections(attention, at, kept)
    cols = (heads + 1) * rotated
    yield at.vector("rotary", at.rows, cols, head_dim=rotated, table_rows=at.positions)
    yield kv_write(at, kept, 0)
    absorbed = [each for each in at.step.sequences if is_absorbed(attention, each)]
    computed = [each for each in at.step.sequences if not is_absorbed(attention, each)]
    if absorbed:
        yield from _absorbed(attention, at, absorbed)
    if computed:
        yield from _computed(attention, at, computed)
    yield at.product("output", at.hidden, heads * attention.value_dim)


def is_absorbed(attention: LatentAttention, sequences: Sequences) -> bool:
    """Whether the absorbed form takes fewer MACs, in which case it moves fewer bytes too.

    Its pairs of a query and a key cost more; the other form projects the cached tokens up again.
    """
    new, cached = sequences.new, sequences.cached
    pairs = new * cached + new * (new + 1) // 2
    of_latents = 2 * attention.latent_dim + attention.rotary_dim
    of_heads = attention.plain_dim + attention.rotary_dim + attention.value_dim
    up = attention.latent_dim * (attention.plain_dim + attention.value_dim)
    return pairs * (of_latents - of_heads) < cached * up


def _projections(attention: LatentAttention, at: Setting, kept: int) -> Iterator[Problem]:
    """Yield what makes queries and latents of the rows; both latents are one product."""
    queries = attention.heads * (attention.plain_dim + attention.rotary_dim)
    rank = attention.query_rank
    if rank is None:
        yield at.product("q", queries, at.hidden)
        yield at.product("latent", kept, at.hidden)
    else:
        yield at.product("latents", rank + kept, at.hidden)
        yield at.vector("rmsnorm", at.rows, rank, "norm of q latent")
        yield at.product("q", queries, rank)
    yield at.vector("rmsnorm", at.rows, attention.latent_dim, "norm of latent")


def _computed(
    attention: LatentAttention, at: Setting, sequences: list[Sequences]
) -> Iterator[Problem]:
    """Yield keys and values of each head, of new and of cached tokens, and their attention."""
    heads, plain, value = attention.heads, attention.plain_dim, attention.value_dim
    latent, rotated = attention.latent_dim, attention.rotary_dim
    cached = sum(each.count * each.cached for each in sequences)
    tokens = cached + sum(each.count * each.new for each in sequences)
    if cached:
        yield kv_read(at, cached, latent + rotated)
    yield at.product("kv up", heads * (plain + value), latent, m=tokens)
    cols = heads * plain
    yield at.vector("join_heads", tokens, cols, "keys", head_dim=plain, y_cols=rotated)
    widths = {"head_dim": plain + rotated, "value_dim": value}
    yield from scores(at, sequences, q_heads=heads, kv_heads=heads, **widths)


def _absorbed(
    attention: LatentAttention, at: Setting, sequences: list[Sequences]
) -> Iterator[Problem]:
    """Yield attention over latents, between the products of each head."""
    heads, latent = attention.heads, attention.latent_dim
    rows = sum(each.count * each.new for each in sequences)
    yield _of_heads("q to latent", at, (rows, heads), latent, attention.plain_dim)
    yield from scores(
        at,
        sequences,
        q_heads=heads,
        kv_heads=1,
        head_dim=latent + attention.rotary_dim,
        value_dim=latent,
        values_in_keys=True,
    )
    yield _of_heads("latent to values", at, (rows, heads), attention.value_dim, latent)


def _of_heads(name: str, at: Setting, lengths: tuple[int, int], n: int, k: int) -> Problem:
    """Return a product of so many rows of each of so many heads with a weight of its own."""
    rows, heads = lengths
    return GroupedGemmProblem(
        kind="grouped_gemm", name=name, rows=(rows,) * heads, n=n, k=k, dtype=at.fmt
    )
