"""The attention of a step as problems: sequences with one new token, and those with more."""

from collections.abc import Iterator, Sequence
from typing import Any

from accelsim.models.operations.parts import Setting
from accelsim.models.step import Sequences
from accelsim.workload.attention import AttentionProblem, SequenceSpec
from accelsim.workload.problem import Problem


def scores(at: Setting, sequences: Sequence[Sequences], **fields: Any) -> Iterator[Problem]:
    """Yield the attention of sequences with one new token, and that of those with more.

    They run different kernels: a decode kernel splits the keys, a prefill kernel the queries.
    Where products of layers and the cache have one format, so have queries: engines cast them and
    multiply without conversion (TensorRT-LLM's FP8 attention; vLLM with FlashAttention-3).
    fields: those of the problem beside its lengths and its formats.
    """
    dtype, kv_dtype = at.fmt, at.kv_fmt
    if kv_dtype == at.linear_fmt:
        dtype, kv_dtype = at.linear_fmt, None
    for name, chosen in (
        ("attention of steps", [each for each in sequences if each.new == 1]),
        ("attention of prompts", [each for each in sequences if each.new > 1]),
    ):
        if chosen:
            yield AttentionProblem(
                kind="attention",
                name=name,
                causal=any(each.new > 1 for each in chosen),
                dtype=dtype,
                kv_dtype=kv_dtype,
                **_lengths(chosen),
                **fields,
            )


def _lengths(chosen: list[Sequences]) -> dict[str, Any]:
    if len(chosen) == 1:
        (own,) = chosen
        return {"batch": own.count, "q_len": own.new, "kv_len": own.cached + own.new}
    specs = (SequenceSpec(new=each.new, cached=each.cached, count=each.count) for each in chosen)
    return {"sequences": tuple(specs)}
