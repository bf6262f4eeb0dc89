"""A vector op of one's own, tanh, and what it is for: the soft cap of the logits of Gemma 2."""

import math

import numpy as np

from accelsim import language as al

_EXP = al.Op.EXP.value


@al.jit_inner
def tanh(p, dst, src):
    """dst = tanh(src), at the cost of an exponential."""
    if al.record_map(p, _EXP, dst, src):
        _numbers(dst.data, src.data, src.rows, src.cols, dst.fmt)


@al.jit_inner
def _numbers(dst, src, rows, cols, fmt):
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = math.tanh(np.float64(src[r, c]))
    al.round_tile(dst, rows, cols, fmt)


@al.jit
def soft_cap(p, x, cap):
    """x = cap tanh(x / cap), in place."""
    al.begin_item(p, 0)
    logits = al.tile(x, 0, x.rows, x.cols)
    al.scale(p, logits, logits, 1 / cap)
    tanh(p, logits, logits)
    al.scale(p, logits, logits, cap)


build = al.ProgramBuilder("soft cap", with_numbers=True)
logits = build.buffer("logits", 2, 4, al.Format.FP32)
logits.data[0] = [[-100, -10, 0, 1], [10, 50, 100, 1000]]
program = build.record(soft_cap, 1, logits, 30.0)
for op in program:
    print(op.unit.name.lower(), op.op.name.lower(), f"{op.a}x{op.b}", op.operand_format)
print(logits.data[0].round(2))
