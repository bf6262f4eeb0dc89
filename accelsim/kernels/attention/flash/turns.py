"""Two query tiles of a work item in turn: one is on the cube while the other is on the vector unit.

Source: Shah et al., "FlashAttention-3" (2024), section 3.1 (ping-pong scheduling): a tile does its
products, weights times values and then queries times the next keys, while the other one does its
softmax. Both share the loads of keys and values. The sums of each are those of one tile alone.
"""

from accelsim.kernels import language as al
from accelsim.kernels.attention.coded import allocate_output
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.flash.items import rows_of_block
from accelsim.kernels.attention.operands import TilesOf, allocate_keys_and_values
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.attention.sinks import allocate_logits
from accelsim.workload.attention import RowWidths


def allocate_turns(
    builder: al.ProgramBuilder, widths: RowWidths, formats: StepFormats, tile_q: int, tile_k: int
) -> tuple[dict[str, al.Buffer], dict[str, al.Buffer]]:
    """Declare the buffers of two query tiles that take turns and share keys and values.

    A tile computes nothing ahead of its own turn, so one slot of most buffers is enough.
    """
    first = _allocate_turn(builder, widths, formats, tile_q, tile_k, "first_")
    shared = allocate_keys_and_values(builder, widths, formats, tile_k)
    second = _allocate_turn(builder, widths, formats, tile_q, tile_k, "second_")
    return first | shared, second | shared


def _allocate_turn(
    builder: al.ProgramBuilder,
    widths: RowWidths,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    prefix: str,
) -> dict[str, al.Buffer]:
    """Declare what one of two query tiles has for itself."""
    own = TilesOf(builder, tile_q, formats.vector, prefix)
    queries, scores = own("q", widths.key, formats.stored, 2), own("scores", tile_k, formats.scores)
    x, output = own.shared(scores, "x", tile_k, formats.vector), own("output", widths.value)
    return {
        "queries": queries,
        "scores_acc": own.sums("scores_acc", tile_k),
        "output_acc": own.sums("output_acc", widths.value),
        "scores": scores,
        "x": x,
        "weights": own.shared(x, "weights", tile_k, formats.weights),
        "product": own("product", widths.value),
        "output": output,
        **allocate_output(own, formats, output, widths.value),
        "row_max": own("row_max", 1, slots=2),
        "row_sum": own("row_sum", 1),
        "tile_sum": own("tile_sum", 1),
        "rescale": own("rescale", 1, slots=2),
        "sink_logits": allocate_logits(own, formats),
    }


@al.jit_inner
def query_tiles_in_turn(p, block, first, second):
    """The two tiles of a block of query rows against all the keys they see.

    first, second: the layouts of both tiles, which differ in their buffers alone.
    """
    one = rows_of_block(block, 0, first.tile_q)
    two = rows_of_block(block, one.rows, second.tile_q)
    one_tiles = online.seen_tiles(one, first)
    two_tiles = online.seen_tiles(two, second) if two.rows > 0 else 0

    online.load_keys(p, 0, 0, one, first)
    _begin(p, one, one_tiles, first)
    _begin(p, two, two_tiles, second)
    alike = min(
        online.alike_turns(one, one_tiles, first), online.alike_turns(two, two_tiles, second)
    )
    j = 0
    while j < max(one_tiles, two_tiles):
        online.load_values(p, j, j, one, first)
        if j + 1 < max(one_tiles, two_tiles):
            online.load_keys(p, j + 1, j + 1, one, first)
        _turn(p, j, one, one_tiles, first)
        _turn(p, j, two, two_tiles, second)
        j = al.next_turn(p, j, 1, alike, online.SLOTS)
    _finish(p, one, one_tiles, first)
    _finish(p, two, two_tiles, second)


@al.jit_inner
def _begin(p, at, tiles, k):
    """Load a tile of queries and multiply it with the first keys."""
    if tiles > 0:
        online.begin_rows(p, at, k)
        online.multiply_loaded_keys(p, 0, 0, at, k)


@al.jit_inner
def _turn(p, j, at, tiles, k):
    """Softmax of key tile j, then its values and the next keys on the cube.

    The product with the values of the tile before is added now, when it has long been ready.
    """
    if j < tiles:
        online.update_weights(p, j, j, at, k)
        if j > 0:
            online.add_to_output(p, j - 1, at, k)
        online.weigh_values(p, j, j, at, k)
        if j + 1 < tiles:
            online.multiply_loaded_keys(p, j + 1, j + 1, at, k)


@al.jit_inner
def _finish(p, at, tiles, k):
    """Add what is left, divide by the row sums and store."""
    if tiles > 0:
        online.add_to_output(p, tiles - 1, at, k)
        online.finish_rows(p, at, k)
