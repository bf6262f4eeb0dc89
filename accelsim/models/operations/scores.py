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
    multiply without conversion (vLLM's page on quantized KV caches, FlashAttention-3 backend;
    of TensorRT-LLM an assumption).
    fields: those of the problem beside its lengths and its formats.
    """
    for name, chosen in (
        ("attention of steps", [each for each in sequences if each.new == 1]),
        ("attention of prompts", [each for each in sequences if each.new > 1]),
    ):
        if chosen:
            yield AttentionProblem(
                kind="attention",
                name=name,
                causal=any(each.new > 1 for each in chosen),
                **_formats(at, chosen),
                **_lengths(chosen),
                **fields,
            )


def _formats(at: Setting, chosen: Sequence[Sequences]) -> dict[str, Any]:
    """Return the format of queries, and how keys and values are kept.

    Prompts that begin a sequence attend to their keys as they came, before they become codes.
    """
    fmt = at.kv_fmt
    if fmt is None:
        return {"dtype": at.fmt}
    if not fmt.is_coded:
        # A scale of a head is as much work as one of a tensor.
        scales = {"kv_scales": "peak" if fmt.has_scales else "one"}
        if fmt.element == at.linear_fmt:
            return {"dtype": fmt.element, **scales}
        return {"dtype": at.fmt, "kv_dtype": fmt.element, **scales}
    if all(each.new == 1 for each in chosen):
        return {"dtype": at.fmt, "kv_codes": fmt}
    if any(each.cached for each in chosen):
        raise at.unknown(f"chunks of prompts behind a KV cache in {fmt}")
    return {"dtype": at.fmt}


def _lengths(chosen: list[Sequences]) -> dict[str, Any]:
    if len(chosen) == 1:
        (own,) = chosen
        return {"batch": own.count, "q_len": own.new, "kv_len": own.cached + own.new}
    specs = (SequenceSpec(new=each.new, cached=each.cached, count=each.count) for each in chosen)
    return {"sequences": tuple(specs)}
