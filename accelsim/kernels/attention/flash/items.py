"""The work items of a pass over all query rows: a table of blocks of rows, in their order.

Sequences may differ in length, so each row of the table has the lengths of its own.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.online_softmax import Rows
from accelsim.kernels.attention.folding import query_heads

Places = npt.NDArray[np.int64]


class Blocks(NamedTuple):
    """Blocks of query rows, arrays with one element each; fields are those of `Rows`."""

    first: Places
    rows: Places
    q_row: Places
    kv_row: Places
    span: Places
    kv_len: Places
    head: Places

    def seen(self, *, causal: bool) -> Places:
        """Return the keys that each block sees."""
        if not causal:
            return self.kv_len
        return np.minimum(self.first % self.span + self.rows, self.span) + self.kv_len - self.span


def blocks_in_order(
    problem: al.AttentionProblem, block_rows: int, *, fold: bool, by_head: bool
) -> Places:
    """Return a row of `Blocks` for each work item, [items, 7].

    By default those that see the most keys come first; among equal ones, and where all sequences
    are of one length, the last blocks of all heads do.
    """
    parts, q_row, kv_row = [], 0, 0
    for part in problem.parts:
        parts.append(_blocks_of_equal(part, block_rows, fold, q_row, kv_row))
        q_row += part.batch * part.q_heads * part.q_len
        kv_row += part.batch * part.kv_heads * part.kv_len
    blocks = Blocks(*map(np.concatenate, zip(*parts, strict=True)))
    table = np.stack(blocks, axis=1)
    if by_head:
        return table
    order = np.argsort(-blocks.first, kind="stable")
    if len(parts) > 1:
        order = order[np.argsort(-blocks.seen(causal=problem.causal)[order], kind="stable")]
    return np.ascontiguousarray(table[order])


def _blocks_of_equal(
    problem: al.AttentionProblem, block_rows: int, fold: bool, q_row: int, kv_row: int
) -> Blocks:
    """Return the blocks of sequences of one length, which begin at these rows of Q and K."""
    own = query_heads(problem, fold=fold)
    head, first = (
        each.ravel()
        for each in np.meshgrid(
            np.arange(own.heads), np.arange(0, own.rows, block_rows), indexing="ij"
        )
    )
    return Blocks(
        first=first,
        rows=np.minimum(block_rows, own.rows - first),
        q_row=q_row + head * own.rows + first,
        kv_row=kv_row + head // own.group * problem.kv_len,
        span=np.full(len(head), problem.q_len),
        kv_len=np.full(len(head), problem.kv_len),
        head=head * problem.q_heads * problem.batch // own.heads % problem.q_heads,
    )


@al.jit_inner
def block_of(item, blocks):
    """The query rows of a work item."""
    own = blocks[item]
    return Rows(item, own[0], own[1], own[2], own[3], own[4], own[5], own[6])


@al.jit_inner
def rows_of_block(at, start, most):
    """At most `most` rows of a block, from number `start` on; none where there are none."""
    rows = max(0, min(most, at.rows - start))
    first, q_row = at.first + start, at.q_row + start
    return Rows(at.item, first, rows, q_row, at.kv_row, at.span, at.kv_len, at.head)
