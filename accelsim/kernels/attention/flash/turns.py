"""Two query tiles of a work item in turn: one is on the cube while the other is on the vector unit.

Source: Shah et al., "FlashAttention-3" (2024), section 3.1 (ping-pong scheduling): a tile does its
products, weights times values and then queries times the next keys, while the other one does its
softmax. Both share the loads of keys and values. The sums of each are those of one tile alone.
"""

from accelsim.kernels.attention.coded import allocate_output
from accelsim.kernels.attention.flash.items import rows_of_block
from accelsim.kernels.attention.flash.online_softmax import (
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
from accelsim.kernels.attention.operands import allocate_keys_and_values
from accelsim.kernels.attention.precision import StepFormats
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer
from accelsim.runtime.jit import jit_inner
from accelsim.workload.attention import RowWidths


def allocate_turns(
    builder: ProgramBuilder, widths: RowWidths, formats: StepFormats, tile_q: int, tile_k: int
) -> tuple[dict[str, Buffer], dict[str, Buffer]]:
    """Declare the buffers of two query tiles that take turns and share keys and values.

    A tile computes nothing ahead of its own turn, so one slot of most buffers is enough.
    """
    first = _allocate_turn(builder, widths, formats, tile_q, tile_k, "first_")
    shared = allocate_keys_and_values(builder, widths, formats, tile_k)
    second = _allocate_turn(builder, widths, formats, tile_q, tile_k, "second_")
    return first | shared, second | shared


def _allocate_turn(
    builder: ProgramBuilder,
    widths: RowWidths,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    prefix: str,
) -> dict[str, Buffer]:
    """Declare what one of two query tiles has for itself."""
    vector = formats.vector

    def own(name: str, cols: int, fmt: Format, slots: int = 1) -> Buffer:
        return builder.buffer(prefix + name, tile_q, cols, fmt, slots=slots)

    def accumulator(name: str, cols: int) -> Buffer:
        return builder.buffer(prefix + name, tile_q, cols, Format.FP32, memory="accumulator")

    queries, scores = own("q", widths.key, formats.stored, 2), own("scores", tile_k, formats.scores)
    x = scores if vector == formats.scores else own("x", tile_k, vector)
    output = own("output", widths.value, vector)
    return {
        "queries": queries,
        "scores_acc": accumulator("scores_acc", tile_k),
        "output_acc": accumulator("output_acc", widths.value),
        "scores": scores,
        "x": x,
        "weights": x if formats.weights == vector else own("weights", tile_k, formats.weights),
        "product": own("product", widths.value, vector),
        "output": output,
        **allocate_output(builder, formats, output, (tile_q, widths.value), prefix),
        "row_max": own("row_max", 1, vector, 2),
        "row_sum": own("row_sum", 1, vector),
        "tile_sum": own("tile_sum", 1, vector),
        "rescale": own("rescale", 1, vector, 2),
    }


@jit_inner
def query_tiles_in_turn(p, block, first, second):
    """The two tiles of a block of query rows against all the keys they see.

    first, second: the layouts of both tiles, which differ in their buffers alone.
    """
    one = rows_of_block(block, 0, first.tile_q)
    two = rows_of_block(block, one.rows, second.tile_q)
    one_tiles = seen_tiles(one, first)
    two_tiles = seen_tiles(two, second) if two.rows > 0 else 0

    load_keys(p, 0, 0, one, first)
    _begin(p, one, one_tiles, first)
    _begin(p, two, two_tiles, second)
    for j in range(max(one_tiles, two_tiles)):
        load_values(p, j, j, one, first)
        if j + 1 < max(one_tiles, two_tiles):
            load_keys(p, j + 1, j + 1, one, first)
        _turn(p, j, one, one_tiles, first)
        _turn(p, j, two, two_tiles, second)
    _finish(p, one, one_tiles, first)
    _finish(p, two, two_tiles, second)


@jit_inner
def _begin(p, at, tiles, k):
    """Load a tile of queries and multiply it with the first keys."""
    if tiles > 0:
        begin_rows(p, at, k)
        multiply_loaded_keys(p, 0, 0, at, k)


@jit_inner
def _turn(p, j, at, tiles, k):
    """Softmax of key tile j, then its values and the next keys on the cube.

    The product with the values of the tile before is added now, when it has long been ready.
    """
    if j < tiles:
        update_weights(p, j, j, at, k)
        if j > 0:
            add_to_output(p, j - 1, at, k)
        weigh_values(p, j, j, at, k)
        if j + 1 < tiles:
            multiply_loaded_keys(p, j + 1, j + 1, at, k)


@jit_inner
def _finish(p, at, tiles, k):
    """Add what is left, divide by the row sums and store."""
    if tiles > 0:
        add_to_output(p, tiles - 1, at, k)
        finish_rows(p, at, k)
