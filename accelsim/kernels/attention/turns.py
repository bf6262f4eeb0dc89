"""Two query tiles of a work item in turn: one is on the cube while the other is on the vector unit.

Source: Shah et al., "FlashAttention-3" (2024), section 3.1 (ping-pong scheduling): a tile does its
products, weights times values and then queries times the next keys, while the other one does its
softmax. Both share the loads of keys and values. The sums of each are those of one tile alone.
"""

from accelsim.jit import jit_inner
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.online_softmax import (
    Buffers,
    add_to_output,
    begin_rows,
    finish_rows,
    load_keys,
    load_values,
    multiply_loaded_keys,
    seen_tiles,
    update_weights,
    weigh_values,
)
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import tile
from accelsim.program.recording import Buffer


def allocate_turns(
    builder: ProgramBuilder, dim: int, formats: StepFormats, tile_q: int, tile_k: int
) -> tuple[Buffers, Buffers]:
    """Declare the buffers of two query tiles that take turns and share keys and values.

    A tile computes nothing ahead of its own turn, so one slot of most buffers is enough.
    """
    first = _allocate_turn(builder, dim, formats, tile_q, tile_k, "first_")
    k = builder.buffer("k", tile_k, dim, formats.stored, slots=2)
    v = builder.buffer("v", tile_k, dim, formats.stored, slots=2)
    second = _allocate_turn(builder, dim, formats, tile_q, tile_k, "second_")
    return first._replace(k=k, v=v), second._replace(k=k, v=v)


def _allocate_turn(
    builder: ProgramBuilder,
    dim: int,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    prefix: str,
) -> Buffers:
    """Declare what one of two query tiles has for itself; k and v are to be replaced."""
    stored, vector = formats.stored, formats.vector

    def own(name: str, cols: int, fmt: Format, slots: int = 1) -> Buffer:
        return builder.buffer(prefix + name, tile_q, cols, fmt, slots=slots)

    def accumulator(name: str, cols: int) -> Buffer:
        return builder.buffer(prefix + name, tile_q, cols, Format.FP32, memory="accumulator")

    queries, scores = own("q", dim, stored, 2), own("scores", tile_k, formats.scores)
    x = scores if vector == formats.scores else own("x", tile_k, vector)
    output = own("output", dim, vector)
    return Buffers(
        q=queries,
        k=queries,
        v=queries,
        scores_acc=accumulator("scores_acc", tile_k),
        output_acc=accumulator("output_acc", dim),
        scores=scores,
        x=x,
        weights=x if formats.weights == vector else own("weights", tile_k, formats.weights),
        product=own("product", dim, vector),
        output=output,
        stored=output if formats.output == vector else own("stored", dim, formats.output),
        row_max=own("row_max", 1, vector, 2),
        row_sum=own("row_sum", 1, vector),
        tile_sum=own("tile_sum", 1, vector),
        rescale=own("rescale", 1, vector, 2),
    )


@jit_inner
def query_tiles_in_turn(p, item, head, row, shape, fmt, hbm, first, second):
    """Two tiles of query rows, from `row` on, against all the keys they see."""
    rows = min(shape.tile_q, shape.q_len - row)
    second_row = row + rows
    second_rows = min(shape.tile_q, shape.q_len - second_row)
    kv_row = head // shape.group * shape.kv_len
    tiles, second_tiles = seen_tiles(row, rows, shape), 0
    if second_rows > 0:
        second_tiles = seen_tiles(second_row, second_rows, shape)

    load_keys(p, 0, 0, kv_row, shape, hbm, first)
    _begin(p, item, head, row, rows, tiles, shape, fmt, hbm, first)
    _begin(p, item, head, second_row, second_rows, second_tiles, shape, fmt, hbm, second)
    for j in range(max(tiles, second_tiles)):
        load_values(p, j, j * shape.tile_k, kv_row, shape, hbm, first)
        if j + 1 < max(tiles, second_tiles):
            load_keys(p, j + 1, (j + 1) * shape.tile_k, kv_row, shape, hbm, first)
        _turn(p, item, j, row, rows, tiles, shape, fmt, first)
        _turn(p, item, j, second_row, second_rows, second_tiles, shape, fmt, second)
    _finish(p, head, row, rows, tiles, shape, fmt, hbm, first)
    _finish(p, head, second_row, second_rows, second_tiles, shape, fmt, hbm, second)


@jit_inner
def _begin(p, item, head, row, rows, tiles, shape, fmt, hbm, b):
    """Load a tile of queries and multiply it with the first keys."""
    if tiles > 0:
        begin_rows(p, item, head * shape.q_len + row, rows, shape, fmt, hbm, b)
        multiply_loaded_keys(p, item, 0, 0, rows, shape, fmt, b)


@jit_inner
def _turn(p, item, j, row, rows, tiles, shape, fmt, b):
    """Softmax of key tile j, then its values and the next keys on the cube.

    The product with the values of the tile before is added now, when it has long been ready.
    """
    if j < tiles:
        update_weights(p, j, j * shape.tile_k, rows, row, shape, fmt, b)
        if j > 0:
            add_to_output(p, j - 1, tile(b.product, j - 1), rows, shape, fmt, b)
        weigh_values(p, j, j * shape.tile_k, rows, shape, fmt, b)
        if j + 1 < tiles:
            multiply_loaded_keys(p, item, j + 1, (j + 1) * shape.tile_k, rows, shape, fmt, b)


@jit_inner
def _finish(p, head, row, rows, tiles, shape, fmt, hbm, b):
    """Add what is left, divide by the row sums and store."""
    if tiles > 0:
        add_to_output(p, tiles - 1, tile(b.product, tiles - 1), rows, shape, fmt, b)
        finish_rows(p, head * shape.q_len + row, rows, shape, fmt, hbm, b)
