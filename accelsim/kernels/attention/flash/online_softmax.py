"""The steps of online softmax: one tile of query rows meets its key tiles one after the other.

A kernel decides which key tiles a tile of queries sees, and calls `begin_rows`, for every key tile
`multiply_keys`, `update_weights` and `add_values`, and at last `finish_rows`. `k` is the layout,
`at` the tile of query rows, `j` a key tile; `turn` counts the key tiles that `at` has met.

Sources: Dao et al., "FlashAttention" (2022), Algorithm 1; Dao, "FlashAttention-2" (2023), section
3.1 (one division by the row sum, at the end).
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.coded import allocate_output
from accelsim.kernels.attention.folding import (
    first_position,
    mask_keys,
    mask_window,
    seen_keys,
    shared_fields,
)
from accelsim.kernels.attention.operands import (
    Operands,
    TilesOf,
    allocate_keys_and_values,
    as_cube_operand,
)
from accelsim.kernels.attention.precision import StepFormats, score_factor
from accelsim.kernels.attention.sinks import allocate_logits, set_to_logits
from accelsim.kernels.attention.softcap import cap_scores
from accelsim.kernels.integer.coder import Coder, Piece, store_rows
from accelsim.workload.attention import RowWidths

SLOTS = 2
"""Slots of what is used in turn."""


class Layout(NamedTuple):
    """Sizes in elements, operands in HBM and tiles on chip.

    `q_len`, `span` and `kv_len` are those of all sequences, or 0 where these differ.
    `group` query heads share one KV head. Where the query heads of a group are folded, the rows of
    all of them count as those of one head, which has its KV head for itself.
    """

    heads: int
    group: int
    q_len: int
    span: int
    """Query rows that follow each other in time: after them the next folded head begins."""
    kv_len: int
    dim: int
    value_dim: int
    tile_q: int
    tile_k: int
    causal: bool
    window: int
    """Latest keys that a row sees; 0: all."""
    sinks: int
    """First keys that it sees besides."""
    has_sink_logits: bool
    """Whether each query head has a logit without a key."""
    values_in_keys: bool
    """Whether rows of V are the first elements of those of K."""
    softcap: float
    """What scores are capped by; 0: nothing."""
    lowest: float
    """What the maximum of a row is before it has seen a key."""
    scale_query: bool
    factor: float
    divides_by_scale: bool
    """Whether values were divided by a scale when they were stored."""
    sum_factor: float
    """1 / that scale, which row sums are multiplied by before the output is divided by them."""
    hbm: Operands
    queries: al.Buffer
    keys: al.Buffer
    values: al.Buffer
    key_operands: al.Buffer
    """Keys as the cube takes them: those that are loaded, unless they are converted first."""
    value_operands: al.Buffer
    scores_acc: al.Buffer
    output_acc: al.Buffer
    scores: al.Buffer
    x: al.Buffer
    """Scores on their way to weights; buffers of one format are shared."""
    weights: al.Buffer
    product: al.Buffer
    output: al.Buffer
    stored: al.Buffer | Coder
    """The output as it is stored; or what codes it, which has matrices of its own."""
    row_max: al.Buffer
    row_sum: al.Buffer
    tile_sum: al.Buffer
    rescale: al.Buffer
    sink_logits: al.Buffer


class Rows(NamedTuple):
    """A tile of query rows."""

    item: int
    """Work item that it belongs to."""
    first: int
    """First row, counted within its head."""
    rows: int
    q_row: int
    """First row in Q."""
    kv_row: int
    """First row of its head in K and V."""
    span: int
    """Query rows that follow each other in time: after them the next folded head begins."""
    kv_len: int
    """Rows of its head in K and V."""
    head: int
    """Query head of its sequence, or the first one of its group where these are folded."""


def allocate(
    builder: al.ProgramBuilder,
    widths: RowWidths,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    query_slots: int = SLOTS,
) -> dict[str, al.Buffer]:
    """Declare the buffers for tiles of tile_q query and tile_k key rows."""
    rows = TilesOf(builder, tile_q, formats.vector)
    scores = rows("scores", tile_k, formats.scores, slots=2)
    x, output = rows.shared(scores, "x", tile_k, formats.vector), rows("output", widths.value)
    return {
        "queries": rows("q", widths.key, formats.stored, slots=query_slots),
        **allocate_keys_and_values(builder, widths, formats, tile_k),
        "scores_acc": rows.sums("scores_acc", tile_k),
        "output_acc": rows.sums("output_acc", widths.value),
        "scores": scores,
        "x": x,
        "weights": rows.shared(x, "weights", tile_k, formats.weights, slots=2),
        "product": rows("product", widths.value),
        "output": output,
        **allocate_output(rows, formats, output, widths.value),
        "row_max": rows("row_max", 1, slots=2),
        "row_sum": rows("row_sum", 1),
        "tile_sum": rows("tile_sum", 1),
        "rescale": rows("rescale", 1),
        "sink_logits": allocate_logits(rows, formats),
    }


def layout_of(
    problem: al.AttentionProblem,
    formats: StepFormats,
    hbm: Operands,
    buffers: dict[str, al.Buffer],
    *,
    fold: bool = False,
    scale_query: bool = False,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Layout:
    """Return the layout of a problem cut into the tiles of `buffers`.

    fold: the query heads of a group as one. scale_query: the queries are scaled, not the scores.
    scales: what K and V were divided by.
    """
    fields = shared_fields(problem, fold=fold, v_scale=scales[1])
    defaults = {"key_operands": "keys", "value_operands": "values", "sink_logits": "row_max"}
    fields |= {name: buffers[other] for name, other in defaults.items()} | buffers
    scaled = formats.stored if scale_query else formats.vector
    return Layout(
        tile_q=buffers["queries"].rows,
        tile_k=buffers["keys"].rows,
        scale_query=scale_query,
        window=problem.window or 0,
        sinks=problem.sink_tokens,
        has_sink_logits=problem.sink_logits,
        values_in_keys=problem.values_in_keys,
        softcap=problem.softcap or 0.0,
        # A row may see none of a tile at the edge of a window: exp(-inf + inf) is no number.
        lowest=-formats.vector.layout.largest if problem.window else -np.inf,
        factor=score_factor(problem, scaled, scales[0]),
        hbm=hbm,
        **fields,
    )


@al.jit_inner
def query_rows(item, head, first, k):
    """The tile of the query rows of a head from `first` on."""
    rows = min(k.tile_q, k.q_len - first)
    q_row, kv_row = head * k.q_len + first, head // k.group * k.kv_len
    return Rows(item, first, rows, q_row, kv_row, k.span, k.kv_len, head)


@al.jit_inner
def seen_tiles(at, k):
    """Key tiles that a tile of query rows sees."""
    return -(-seen_keys(at, k) // k.tile_k)


@al.jit_inner
def alike_turns(at, tiles, k):
    """How many turns of `at`, which sees key tiles 0 to tiles - 1, are like turn 1, with turn 0.

    They load the next key tile whole, and hide no key of their own.
    """
    if k.window:
        return 0
    alike = min(tiles, at.kv_len // k.tile_k) - 1
    if k.causal:
        alike = min(alike, (first_position(at, k) + 1) // k.tile_k)
    return alike


@al.jit_inner
def skipped_tiles(at, k):
    """How many key tiles behind those with sinks `at` does not see, and those with sinks."""
    if not k.window:
        return 0, 0
    first = max(0, first_position(at, k) - k.window + 1)
    with_sinks = -(-min(k.sinks, first) // k.tile_k)
    return max(0, first // k.tile_k - with_sinks), with_sinks


@al.jit_inner
def tile_of(turn, skipped):
    """The key tile that is met in a turn; skipped: what `skipped_tiles` has."""
    return turn if turn < skipped[1] else turn + skipped[0]


@al.jit_inner
def keys_of(j, at, k):
    """Keys of key tile j of what `at` sees."""
    return min(k.tile_k, at.kv_len - j * k.tile_k)


@al.jit_inner
def begin_rows(p, at, k):
    """Load a tile of query rows and reset what runs along the keys."""
    load_queries(p, at, k)
    if k.has_sink_logits:
        begin_with_sinks(p, at, k)
    else:
        reset_rows(p, at.rows, k.lowest, k)


@al.jit_inner
def load_queries(p, at, k):
    """Load a tile of query rows."""
    queries = al.tile(k.queries, at.item, at.rows, k.dim)
    al.load(p, queries, k.hbm.q, at.q_row, 0)
    if k.scale_query:
        al.scale(p, queries, queries, k.factor)


@al.jit_inner
def begin_with_sinks(p, at, k):
    """Begin rows as if each had seen a key with the logit of its head, and no value."""
    reset_rows(p, at.rows, 0.0, k)
    set_to_logits(p, al.tile(k.row_max, 0, at.rows, 1), at, k)
    al.fill(p, al.tile(k.row_sum, 0, at.rows, 1), 1.0)


@al.jit_inner
def reset_rows(p, rows, lowest, k):
    """Set sums and output to what they are before the first key, and maxima to `lowest`."""
    al.fill(p, al.tile(k.row_max, 0, rows, 1), lowest)
    al.fill(p, al.tile(k.row_sum, 0, rows, 1), 0.0)
    al.fill(p, al.tile(k.output, 0, rows, k.value_dim), 0.0)


@al.jit_inner
def multiply_keys(p, turn, j, at, k):
    """Load key tile j and multiply the queries with it."""
    load_keys(p, turn, j, at, k)
    multiply_loaded_keys(p, turn, j, at, k)


@al.jit_inner
def load_keys(p, turn, j, at, k):
    """Load key tile j."""
    keys = al.tile(k.keys, turn, keys_of(j, at, k), k.dim)
    al.load(p, keys, k.hbm.k, at.kv_row + j * k.tile_k, 0)
    as_cube_operand(p, keys, k.key_operands, turn)


@al.jit_inner
def multiply_loaded_keys(p, turn, j, at, k):
    """Multiply the queries with key tile j, which has been loaded."""
    cols = keys_of(j, at, k)
    queries = al.tile(k.queries, at.item, at.rows, k.dim)
    acc = al.tile(k.scores_acc, turn, at.rows, cols)
    al.matmul_transposed(p, acc, queries, al.tile(k.key_operands, turn, cols, k.dim), False)
    al.move(p, al.tile(k.scores, turn, at.rows, cols), acc)


@al.jit_inner
def update_weights(p, turn, j, at, k):
    """Turn the scores of key tile j into weights and bring the row statistics up to date."""
    rows, cols = at.rows, keys_of(j, at, k)
    scores, x = al.tile(k.scores, turn, rows, cols), al.tile(k.x, turn, rows, cols)
    if not k.scale_query:
        al.scale(p, x, scores, k.factor)
    elif k.scores.fmt != k.x.fmt:
        al.convert(p, x, scores)
    cap_scores(p, x, k.softcap)
    exponentials(p, x, turn, j, at, k)
    if k.weights.fmt != k.x.fmt:
        al.convert(p, al.tile(k.weights, turn, rows, cols), x)


@al.jit_inner
def exponentials(p, x, turn, j, at, k):
    """Turn the scaled scores x of key tile j into weights in place; update the statistics.

    `rescale` becomes the factor that is due to what the rows have summed up before.
    """
    total, tile_total = al.tile(k.row_sum, 0, at.rows, 1), al.tile(k.tile_sum, 0, at.rows, 1)
    old, new = al.tile(k.row_max, turn, at.rows, 1), al.tile(k.row_max, turn + 1, at.rows, 1)
    rescale = al.tile(k.rescale, turn, at.rows, 1)
    if k.causal:
        mask_keys(p, x, j * k.tile_k, at, k)
    if k.window:
        mask_window(p, x, j * k.tile_k, at, k)
    al.row_max(p, new, x)
    al.maximum(p, new, new, old)
    al.subtract(p, rescale, old, new)
    al.exp(p, rescale, rescale)
    al.subtract_column(p, x, x, new)
    al.exp(p, x, x)
    al.row_sum(p, tile_total, x)
    al.multiply(p, total, total, rescale)
    al.add(p, total, total, tile_total)


@al.jit_inner
def add_values(p, turn, j, at, k):
    """Load value tile j, rescale the running output and add the weighted values."""
    load_values(p, turn, j, at, k)
    weigh_values(p, turn, j, at, k)
    add_to_output(p, turn, at, k)


@al.jit_inner
def load_values(p, turn, j, at, k):
    """Load value tile j, unless it is a part of the keys."""
    if k.values_in_keys:
        return
    values = al.tile(k.values, turn, keys_of(j, at, k), k.value_dim)
    al.load(p, values, k.hbm.v, at.kv_row + j * k.tile_k, 0)
    as_cube_operand(p, values, k.value_operands, turn)


@al.jit_inner
def weigh_values(p, turn, j, at, k):
    """Multiply the weights of key tile j with its values, which have been loaded."""
    cols = keys_of(j, at, k)
    weights = al.tile(k.weights, turn, at.rows, cols)
    acc = al.tile(k.output_acc, turn, at.rows, k.value_dim)
    if k.values_in_keys:
        keys = al.tile(k.key_operands, turn, cols, k.dim)
        al.matmul(p, acc, weights, al.columns(keys, 0, k.value_dim), False)
    else:
        al.matmul(p, acc, weights, al.tile(k.value_operands, turn, cols, k.value_dim), False)
    al.move(p, al.tile(k.product, turn, at.rows, k.value_dim), acc)


@al.jit_inner
def add_to_output(p, turn, at, k):
    """Rescale the running output and add the weighted values of a key tile."""
    output = al.tile(k.output, 0, at.rows, k.value_dim)
    al.multiply_column(p, output, output, al.tile(k.rescale, turn, at.rows, 1))
    al.add(p, output, output, al.tile(k.product, turn, at.rows, k.value_dim))


@al.jit_inner
def finish_rows(p, at, k):
    """Divide the output by the row sums and store it."""
    output, total = al.tile(k.output, 0, at.rows, k.value_dim), al.tile(k.row_sum, 0, at.rows, 1)
    if k.divides_by_scale:
        al.scale(p, total, total, k.sum_factor)
    al.divide_column(p, output, output, total)
    piece = Piece(at.item, at.q_row, at.rows, 0, k.value_dim)
    store_rows(k.stored, p, k.hbm.o, piece, output)
