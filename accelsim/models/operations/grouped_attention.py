"""The operations of attention whose query heads share heads of K and V."""

from collections.abc import Iterator

from accelsim.models.attention import GroupedAttention, HeadNorm
from accelsim.models.operations.kv_cache import kv_write
from accelsim.models.operations.parts import Setting
from accelsim.models.operations.scores import scores
from accelsim.models.step import Sequences
from accelsim.workload.problem import Problem


def operations(attention: GroupedAttention, at: Setting) -> Iterator[Problem]:
    """Yield what lies between the norm of attention and the next residual; QKV is one product."""
    heads = attention.heads + attention.kv_heads
    outputs = heads * attention.head_dim + attention.kv_heads * attention.value_dim
    yield at.product("qkv", outputs, at.hidden)
    yield from _norm_of_heads(attention, at)
    if attention.rotary_dim:
        yield _rotary(attention, at)
    key_cols, value_cols = attention.head_dim, attention.value_dim
    yield kv_write(at, attention.kv_heads * key_cols, attention.kv_heads * value_cols)
    yield from scores(
        at,
        [piece for each in at.step.sequences for piece in _pieces(attention, each)],
        q_heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=key_cols,
        value_dim=None if value_cols == key_cols else value_cols,
        window=attention.window,
        softcap=attention.softcap,
        sink_logits=attention.has_sinks,
    )
    if at.linear_fmt != at.fmt:
        yield at.operand("copy", attention.heads * attention.value_dim, name="cast of attention")
    yield at.product("output", at.hidden, attention.heads * attention.value_dim)


def _norm_is_fused(attention: GroupedAttention) -> bool:
    """Whether the kernel that turns heads also normalises them."""
    of_heads = attention.head_norm in (HeadNorm.HEAD, HeadNorm.PLAIN)
    return of_heads and attention.rotary_dim == attention.head_dim


def _norm_of_heads(attention: GroupedAttention, at: Setting) -> Iterator[Problem]:
    heads = attention.heads + attention.kv_heads
    if _norm_is_fused(attention):
        return
    if attention.head_norm in (HeadNorm.HEAD, HeadNorm.PLAIN):
        yield at.vector("rmsnorm", at.rows * heads, attention.head_dim, name="norm of heads")
    elif attention.head_norm is HeadNorm.ROW:
        for name, heads in (("q", attention.heads), ("k", attention.kv_heads)):
            yield at.vector("rmsnorm", at.rows, heads * attention.head_dim, name=f"norm of {name}")


def _rotary(attention: GroupedAttention, at: Setting) -> Problem:
    heads = attention.heads + attention.kv_heads
    return at.vector(
        "norm_rotary" if _norm_is_fused(attention) else "rotary",
        at.rows,
        heads * attention.rotary_dim,
        name="rotary",
        head_dim=attention.rotary_dim,
        table_rows=at.positions,
    )


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
