"""Logits of query heads that have no key and no value: learned sinks.

Each head adds one learned logit to the softmax of its rows (OpenAI, "gpt-oss-120b & gpt-oss-20b
Model Card", 2025, section 2.2; Xiao et al., 2023). HBM traffic: 4 bytes for each head of a tile.
"""

from accelsim.kernels import language as al
from accelsim.kernels.attention.operands import TilesOf
from accelsim.kernels.attention.precision import StepFormats


def allocate_logits(rows: TilesOf, formats: StepFormats) -> al.Buffer:
    """Declare the tile that logits are loaded to, if there are."""
    if not formats.has_sink_logits:
        return rows.builder.no_buffer()
    return rows("sink_logits", 1, al.Format.FP32, slots=2)


@al.jit_inner
def set_to_logits(p, column, at, k):
    """Set each row of a column to the logit of its head.

    at: `item`, the first `head`, the `first` row of it, and its rows, `span`; see `folding`.
    """
    al.fill(p, column, 0.0)
    if at.span == 1:
        # The heads of the rows follow each other, as their logits do.
        logits = al.tile(k.sink_logits, at.item, column.rows, 1)
        al.load(p, logits, k.hbm.sinks, at.head + at.first, 0)
        al.add(p, column, column, logits)
        return
    done = 0
    while done < column.rows:
        head, position = (at.first + done) // at.span, (at.first + done) % at.span
        own = min(column.rows - done, at.span - position)
        logit, rows = al.tile(k.sink_logits, head, 1, 1), al.rows_from(column, done, own)
        al.load(p, logit, k.hbm.sinks, at.head + head, 0)
        al.add_row(p, rows, rows, logit)
        done += own
