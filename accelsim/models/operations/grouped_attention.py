"""The operations of attention whose query heads share heads of K and V."""

from collections.abc import Iterator

from accelsim.models.attention import GroupedAttention, HeadNorm
from accelsim.models.operations.parts import Setting
from accelsim.models.step import Sequences
from accelsim.workload.attention import AttentionProblem, SequenceSpec
from accelsim.workload.problem import Problem

KV_PAGE_TOKENS = 16
"""Tokens of a block of the KV cache (vLLM's default)."""
_CACHE_PAGES = 1 << 13
"""Pages of the cache of one layer among which those of a step lie; at least as many as it has."""


def operations(attention: GroupedAttention, at: Setting) -> Iterator[Problem]:
    """Yield what lies between the norm of attention and the next residual; QKV is one product."""
    heads = attention.heads + attention.kv_heads
    outputs = heads * attention.head_dim + attention.kv_heads * attention.value_dim
    if attention.has_sinks:
        raise at.unknown("sinks of heads")
    if attention.value_dim != attention.head_dim:
        raise at.unknown("keys wider than values")
    yield at.product("qkv", outputs, at.hidden)
    yield from _norm_of_heads(attention, at)
    if attention.rotary_dim:
        yield _rotary(attention, at)
    yield _kv_write(attention, at)
    yield from _scores(attention, at)
    if at.linear_fmt != at.fmt:
        yield at.operand("copy", attention.heads * attention.value_dim, name="cast of attention")
    yield at.product("output", at.hidden, attention.heads * attention.value_dim)


def _norm_of_heads(attention: GroupedAttention, at: Setting) -> Iterator[Problem]:
    heads = attention.heads + attention.kv_heads
    if attention.head_norm is HeadNorm.HEAD:
        yield at.vector("rmsnorm", at.rows * heads, attention.head_dim, name="norm of heads")
    elif attention.head_norm is not HeadNorm.NONE:
        raise at.unknown(f"a norm of Q and K by {attention.head_norm}")


def _rotary(attention: GroupedAttention, at: Setting) -> Problem:
    """Return the turning of Q and K, by a table of all positions that the model knows.

    Serving engines make it once, so it is the same for every step (vLLM's `cos_sin_cache`).
    """
    heads = attention.heads + attention.kv_heads
    positions = at.architecture.max_tokens or max(
        each.cached + each.new for each in at.step.sequences
    )
    return at.vector(
        "rotary",
        at.rows,
        heads * attention.rotary_dim,
        head_dim=attention.rotary_dim,
        table_rows=positions,
    )


def _kv_write(attention: GroupedAttention, at: Setting) -> Problem:
    """Return the writing of new keys and values: whole pages of prompts, or a token a page."""
    page = KV_PAGE_TOKENS if any(each.new > 1 for each in at.step.sequences) else 1
    pages = max(_CACHE_PAGES, -(-at.rows // page))
    cols = attention.kv_heads * attention.head_dim
    return at.vector("kv_write", at.rows, cols, table_rows=pages * page, page=page)


def _scores(attention: GroupedAttention, at: Setting) -> Iterator[Problem]:
    """Yield the attention of sequences with one new token, and that of those with more.

    They run different kernels: a decode kernel splits the keys, a prefill kernel the queries.
    """
    pieces = [piece for each in at.step.sequences for piece in _pieces(attention, each)]
    for name, chosen in (
        ("attention of steps", [each for each in pieces if each.new == 1]),
        ("attention of prompts", [each for each in pieces if each.new > 1]),
    ):
        if chosen:
            yield _attention(name, attention, chosen, at)


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
    name: str, attention: GroupedAttention, chosen: list[Sequences], at: Setting
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
        dtype=at.fmt,
        **lengths,
    )
