"""The loops over products: who multiplies, and who applies the scales.

- `in_cube`: the cube multiplies the sum of each block by both scales and adds it.
- `in_array`: the integer array shifts it to the unit of its accumulators and adds it. That unit is
  the largest scale of the row of X times the largest of the column of W, with guard bits.
- `out_of_cube`, `out_of_array`: each block is a product of its own, which leaves the unit; the
  vector unit multiplies it by both scales and adds it in FP32 (DeepSeek-V3 Technical Report, 2024,
  section 3.3.2, does so on Hopper for blocks of 128).
"""

from accelsim.kernels import language as al
from accelsim.kernels.linear.mx import steps


@al.jit
def in_cube(p, phase, k):
    """All tiles of Y, scales applied by the cube."""
    for item in range(steps.num_items(k)):
        al.begin_item(p, phase)
        at = steps.place_of(item, k)
        acc = al.tile(k.acc, item, at.rows, at.cols)
        for step in range(steps.num_steps(k)):
            x, w = steps.load_operands(p, step, at, k)
            al.scaled_matmul(p, acc, x, w, step > 0)
        if k.has_factor:
            wide = al.tile(k.wide, item, at.rows, at.cols)
            al.move(p, wide, acc)
            steps.write_output(p, wide, at, k)
        else:
            y = al.tile(k.y, item, at.rows, at.cols)
            al.move(p, y, acc)
            al.store(p, k.output, at.row, at.col, y)


@al.jit
def in_array(p, phase, k):
    """All tiles of Y, sums of blocks aligned by the integer array."""
    for item in range(steps.num_items(k)):
        al.begin_item(p, phase)
        at = steps.place_of(item, k)
        acc = al.tile(k.acc, item, at.rows, at.cols)
        for step in range(steps.num_steps(k)):
            x, w = steps.load_operands(p, step, at, k)
            al.aligned_matmul(p, acc, x, w, k.guard_bits, k.accumulator, step > 0)
        wide = _drained(p, item, acc, k)
        column = al.tile(k.column_tile, item, 1, at.cols)
        row = al.tile(k.row_tile, item, at.rows, 1)
        al.load(p, column, k.column_scale, 0, at.col)
        al.load(p, row, k.row_scale, at.row, 0)
        al.multiply_row(p, wide, wide, column)
        al.multiply_column(p, wide, wide, row)
        steps.write_output(p, wide, at, k)


# The next two are two loops, since sums in FP32 and in INT32 are tiles of different types, and the
# cache on disk does not find a compiled function again that is an argument.
@al.jit
def out_of_cube(p, phase, k):
    """All tiles of Y, each block drained from the cube and scaled by the vector unit."""
    for item in range(steps.num_items(k)):
        al.begin_item(p, phase)
        at, drained = steps.place_of(item, k), 0
        total = _zeros(p, item, at, k)
        for step in range(steps.num_steps(k)):
            x, w = steps.load_operands(p, step, at, k)
            for number in range(-(-x.elements.cols // k.block)):
                acc = al.tile(k.acc, drained, at.rows, at.cols)
                left, right = steps.block_of(x, w, number, k)
                al.matmul(p, acc, left, right, False)
                part = al.tile(k.wide, drained, at.rows, at.cols)
                al.move(p, part, acc)
                steps.add_scaled(p, total, part, x, w, number, k)
                drained += 1
        steps.write_output(p, total, at, k)


@al.jit
def out_of_array(p, phase, k):
    """All tiles of Y, each block drained from the integer array and scaled by the vector unit."""
    for item in range(steps.num_items(k)):
        al.begin_item(p, phase)
        at, drained = steps.place_of(item, k), 0
        total = _zeros(p, item, at, k)
        for step in range(steps.num_steps(k)):
            x, w = steps.load_operands(p, step, at, k)
            for number in range(-(-x.elements.cols // k.block)):
                acc = al.tile(k.acc, drained, at.rows, at.cols)
                left, right = steps.block_of(x, w, number, k)
                al.int_matmul(p, acc, left, right, k.accumulator, False)
                steps.add_scaled(p, total, _drained(p, drained, acc, k), x, w, number, k)
                drained += 1
        steps.write_output(p, total, at, k)


@al.jit_inner
def _zeros(p, item, at, k):
    total = al.tile(k.total, item, at.rows, at.cols)
    al.fill(p, total, 0.0)
    return total


@al.jit_inner
def _drained(p, turn, acc, k):
    """Return the sums of an accumulator tile in FP32."""
    sums, wide = (
        al.tile(k.sums, turn, acc.rows, acc.cols),
        al.tile(k.wide, turn, acc.rows, acc.cols),
    )
    al.move(p, sums, acc)
    al.convert(p, wide, sums)
    return wide
