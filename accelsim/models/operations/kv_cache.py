"""New keys and values on their way to the cache of a layer."""

from typing import Any

from accelsim.models.operations.parts import Setting
from accelsim.workload.problem import Problem

KV_PAGE_TOKENS = 16
"""Tokens of a block of the KV cache (vLLM's default)."""
_CACHE_PAGES = 1 << 13
"""Pages of the cache of one layer among which those of a step lie; at least as many as it has."""


def kv_write(at: Setting, key_cols: int, value_cols: int) -> Problem:
    """Return the writing of new keys and values: whole pages of prompts, or a token a page.

    value_cols: 0 where values are a part of the keys.
    """
    page = KV_PAGE_TOKENS if any(each.new > 1 for each in at.step.sequences) else 1
    rows = max(_CACHE_PAGES, -(-at.rows // page)) * page
    others: dict[str, Any] = {} if value_cols == key_cols else {"y_cols": value_cols}
    return at.vector("kv_write", at.rows, key_cols, table_rows=rows, page=page, **others)


def kv_read(at: Setting, tokens: int, cols: int) -> Problem:
    """Return the reading of rows of so many cached tokens, which then lie one after the other."""
    rows = max(_CACHE_PAGES * KV_PAGE_TOKENS, tokens)
    return at.vector("embedding", tokens, cols, "cached rows", table_rows=rows)
