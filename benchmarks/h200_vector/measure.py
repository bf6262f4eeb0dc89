"""Measure vector functions of PyTorch on a GPU, with inputs that its L2 does not hold.

Prints rows of `h200-vector.csv`, or of the shapes that are held out: python measure.py [held-out]
"""

import random
import sys
from statistics import median

import torch
from torch.nn import functional

FUNCTIONS = {
    "copy": (1, torch.clone),
    "gelu": (1, functional.gelu),
    "softmax": (1, lambda x: torch.softmax(x, -1)),
    "rmsnorm": (1, lambda x: functional.rms_norm(x, x.shape[-1:])),
    "layernorm": (1, lambda x: functional.layer_norm(x, x.shape[-1:])),
}
"""Name -> number of operands and function."""
L2_BYTES, MOST_SETS, FEWEST_LAUNCHES, REPLAYS = 60 << 20, 400, 8, 7
ROWS = (1, 4, 16, 64, 132, 256, 1024, 4096, 16384)
COLUMNS = (4096, 8192, 16384, 32768, 65536, 262144, 1 << 20)
OTHERS = (
    "1x50257 7x128256 33x151936 64x32000 128x128256 512x50257 2048x32000 100x1000 1000x1000 "
    "5000x1536 300x2560 2112x2560 8192x2560 33x5120 200x5120 2113x5120 8192x5120 133x7168 264x7168 "
    "3000x7168 265x11008 2048x11008 128x14336 4224x14336 20x28672 500x28672 2112x16384 2112x8192 "
    "4097x3000 65536x1024 32768x2048 12288x6144 777x12288 31x100000 150x200000 3x500000"
)
ODD_ROWS, ODD_COLUMNS = (1, 16, 132, 300, 1056, 4224, 16896), (301, 701, 1501, 3001, 9001, 30001)
"""Of norms alone: rows whose elements do not lie in fours."""
SILU_MUL_ROWS, SILU_MUL_COLUMNS = (
    (1, 16, 132, 256, 1024, 4096, 16384),
    (4096, 11008, 14336, 65536),
)
MODEL_COLUMNS = (
    *(768, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 5376, 6144, 7168, 8192, 9216, 11008),
    *(12288, 14336, 16384, 18432, 22016, 28672, 32000, 49152, 128256, 151936),
)
MOST_ELEMENTS = 1 << 26
"""Of a matrix of the shipped files; larger ones were measured too."""


def grid():
    """Return the shapes that were chosen."""
    shapes = [(rows, cols) for rows in ROWS for cols in COLUMNS]
    return shapes + [tuple(map(int, shape.split("x"))) for shape in OTHERS.split()]


def drawn():
    """Return the shapes that were drawn: a third with any number of columns."""
    random.seed(60)
    shapes = []
    while len(shapes) < 84:
        rows = int(2 ** random.uniform(0, 14.2))
        any_cols = len(shapes) % 3 == 0
        cols = int(2 ** random.uniform(8, 20)) if any_cols else random.choice(MODEL_COLUMNS)
        if 1 << 14 <= rows * cols <= 1 << 28:
            shapes.append((rows, cols))
    return shapes


def operands(rows, cols, sets):
    """Return so many random matrices, each at a multiple of 256 bytes."""
    width = -(-rows * cols // 128) * 128
    buffer = torch.empty(sets, width, dtype=torch.bfloat16, device="cuda").normal_()
    return [buffer[i, : rows * cols].view(rows, cols) for i in range(sets)]


def times_us(function, count, rows, cols, flush):
    """Return microseconds of a launch in each of the replays of a graph.

    Every launch has operands and a result of its own; between replays all of the L2 is read over.
    """
    sets = -(-6 * L2_BYTES // (count * rows * cols * 2))
    sets = max(2, min(MOST_SETS, sets))
    launches = sets * max(1, -(-FEWEST_LAUNCHES // sets))
    given = list(zip(*(operands(rows, cols, sets) for _ in range(count)), strict=True))
    for _ in range(2):
        function(*given[0])
    torch.cuda.synchronize()
    graph, results, found = torch.cuda.CUDAGraph(), [], []
    with torch.cuda.graph(graph):
        for i in range(launches):
            result = function(*given[i % sets])
            if i < sets:
                results.append(result)
    for _ in range(REPLAYS + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.max()
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) * 1e3 / launches)
    return found[1:]


def work(held_out):
    """Yield name, operands, function and shape of every row."""
    shapes = drawn() if held_out else grid()
    for name, (count, function) in FUNCTIONS.items():
        yield from ((name, count, function, *shape) for shape in shapes)
    if not held_out:
        odd = [(rows, cols) for cols in ODD_COLUMNS for rows in ODD_ROWS]
        for name in ("rmsnorm", "layernorm"):
            yield from ((name, *FUNCTIONS[name], *shape) for shape in odd)
    compiled = [(rows, cols) for rows in SILU_MUL_ROWS for cols in SILU_MUL_COLUMNS]
    compiled += [(300, 2560), (33, 5120), (2113, 7168), (7, 128256)]
    for shape in shapes[::3] if held_out else compiled:
        torch._dynamo.reset()
        function = torch.compile(lambda x, y: functional.silu(x) * y, dynamic=False)
        yield "silu_mul", 2, function, *shape


def main():
    flush = torch.zeros(1 << 28, dtype=torch.int32, device="cuda")
    print("function,rows,cols,time_us,time_min_us")
    for name, count, function, rows, cols in work("held-out" in sys.argv[1:]):
        if rows * cols <= MOST_ELEMENTS:
            found = times_us(function, count, rows, cols, flush)
            print(f"{name},{rows},{cols},{median(found):.3f},{min(found):.3f}", flush=True)


if __name__ == "__main__":
    main()
