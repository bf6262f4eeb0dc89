"""Measure what an H200 pays to bring cached keys and values into the format of a product.

    python benchmarks/h200_widening/measure.py instructions > instructions.csv
    python benchmarks/h200_widening/measure.py tiles > tiles.csv

Needs PyTorch, CuPy, Triton, cuobjdump and a GPU. `instructions` has the rate of single
instructions. `tiles` multiplies tiles of keys and of values that the L2 holds, as the decode
kernels of a library do without their softmax, and counts the instructions of its loop.
"""

import ctypes
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import torch
import triton
import triton.language as tl

sys.path.insert(0, str(Path(__file__).parents[1] / "h200_energy"))
from measure import CORES, INSTRUCTION, cuda, device, measured, nvml

DIM, ROWS, HELD_BYTES, TURNS = 128, 16, 24 << 20, 4
BLOCKS = 4, 8
"""Of a multiprocessor, as the steps of many sequences have."""
WORD = "((unsigned*)a)[j]"
HALF = "{.reg .b16 l,h;mov.b32 {l,h},%0;CVT %0,l;}"
INSTRUCTIONS = {
    "cvt.rn.f16x2.e4m3x2": HALF,
    "cvt.f32.f16": HALF,
    "cvt.rn.bf16x2.f32": "{.reg .f32 f;mov.b32 f,%0;CVT %0,f,f;}",
    "cvt.rn.bf16.f16": "{.reg .b16 l,h;mov.b32 {l,h},%0;CVT l,l;mov.b32 %0,{l,h};}",
    "prmt.b32": "CVT %0,%0,%1,0x5410;",
    "ld.shared.u8": "{.reg .b32 t;and.b32 t,%0,124;CVT %0,[t];}",
    "ld.shared.b32": "{.reg .b32 t;and.b32 t,%0,124;CVT %0,[t];}",
}
SPACE = "__shared__ unsigned held[8192];held[threadIdx.x]=n;__syncthreads();"
TILES = (
    ("bf16", "bf16", 64, 4, 3),
    ("fp8", "bf16", 64, 4, 3),
    ("fp8", "bf16", 32, 4, 4),
    ("fp8", "bf16", 64, 2, 3),
    ("fp8", "fp16", 64, 4, 3),
    ("fp8", "fp16", 32, 4, 4),
    ("fp8", "fp16", 64, 2, 3),
)
"""Format of the cache, of the product, keys of a tile, warps, and stages."""
FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.float8_e4m3fn}
COLUMNS = {
    "instructions": "instruction,per_cycle,pj,sm_mhz",
    "tiles": "cached,product,part,keys,warps,stages,blocks,elements_per_cycle,pj,watt,sm_mhz,"
    "lane_instructions,loop",
}
KINDS = {"bf16": tl.bfloat16, "fp16": tl.float16}


def instructions():
    """Yield an instruction, its results a cycle and multiprocessor, and picojoules of one."""
    times = 4000
    for name, text in INSTRUCTIONS.items():
        body = f'asm volatile("{text.replace("CVT", name)}":"+r"({WORD}):"r"(m));'
        kernel = cuda(INSTRUCTION.replace("CODE", body).replace("int n){", "int n){" + SPACE))
        us, watts, mhz = measured(lambda _, k=kernel: k(CORES, 1024, times), in_graph=False)
        actions = 64 * times * 1024
        yield name, actions / (us * mhz), 1e6 * (watts - 120) * us / actions / CORES, mhz


@triton.jit
def multiply(
    q, p, k, v, out, tiles, keys: tl.constexpr, dim: tl.constexpr, rows: tl.constexpr,
    turns: tl.constexpr, kind: tl.constexpr, parts: tl.constexpr, stages: tl.constexpr,
):  # fmt: skip
    """Multiply tiles of keys, of values, or both (parts: 1, 2, 3), of a range of its own."""
    row, col, key = tl.arange(0, rows), tl.arange(0, dim), tl.arange(0, keys)
    queries = tl.load(q + row[:, None] * dim + col[None, :])
    weights = tl.load(p + row[:, None] * keys + key[None, :])
    scores, sums = tl.zeros((rows, keys), tl.float32), tl.zeros((rows, dim), tl.float32)
    first = tl.program_id(0) * tiles * keys
    for i in tl.range(0, tiles * turns, num_stages=stages):
        at = (first + (i % tiles) * keys + key) * dim
        if parts & 1:
            mine = tl.load(k + at[None, :] + col[:, None]).to(kind)
            scores = tl.dot(queries, mine, scores)
        if parts & 2:
            mine = tl.load(v + at[:, None] + col[None, :]).to(kind)
            sums = tl.dot(weights, mine, sums)
    tl.store(out + row[:, None] * dim + col[None, :], sums + tl.sum(scores, 1)[:, None])


def tiles():
    """Yield what was run, elements a cycle and multiprocessor, pJ of one, and the loop."""
    for many in BLOCKS:
        for run in TILES:
            for parts in (1, 2, 3):
                yield _tiles(*run, parts, many)


def _tiles(cached, kind, keys, warps, stages, parts, many):
    blocks, width = many * CORES, FORMATS[cached].itemsize
    held = max(2, HELD_BYTES // (2 * width * DIM * keys * blocks))
    size = blocks * held * keys, DIM
    k, v = (torch.randn(size, device="cuda").to(FORMATS[cached]) for _ in range(2))
    q = torch.randn(ROWS, DIM, device="cuda").to(FORMATS[kind])
    p = torch.rand(ROWS, keys, device="cuda").to(FORMATS[kind])
    out = torch.empty(ROWS, DIM, device="cuda")
    turns = max(1, 4096 // (held * keys)) * TURNS
    given = held, keys, DIM, ROWS, turns, KINDS[kind], parts, stages
    compiled = multiply[(blocks,)](q, p, k, v, out, *given, num_warps=warps)
    launch = partial(multiply[(blocks,)], q, p, k, v, out, *given, num_warps=warps)
    us, watts, mhz = measured(lambda _: launch(), in_graph=False)
    elements = blocks * held * keys * turns * DIM * (2 if parts == 3 else 1)
    rate, energy = elements / CORES / (us * mhz), 1e6 * (watts - 120) * us / elements
    what = ("keys", "values", "both")[parts - 1]
    loop = loop_of(compiled.asm["cubin"])
    count = sum(loop.values()) * 32 * warps / (keys * DIM * (2 if parts == 3 else 1))
    text = " ".join(f"{name}:{n}" for name, n in loop.most_common(24))
    return cached, kind, what, keys, warps, stages, many, rate, energy, watts, mhz, count, text


def loop_of(cubin):
    """Return how often the longest loop has each instruction."""
    with tempfile.NamedTemporaryFile(suffix=".cubin", delete=False) as file:
        file.write(cubin)
    listing = subprocess.check_output(["cuobjdump", "-sass", file.name], text=True)
    os.unlink(file.name)
    found = re.findall(r"/\*([0-9a-f]{4,6})\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)([^;]*);", listing)
    lines = [(int(at, 16), name, rest) for at, name, rest in found]
    loops = []
    for at, name, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest)
        if name.startswith("BRA") and target and int(target[1], 16) < at:
            loops.append((at - int(target[1], 16), int(target[1], 16), at))
    if not loops:
        return Counter()
    _, first, last = max(loops)
    return Counter(name for at, name, _ in lines if first <= at <= last)


def main(what):
    nvml.nvmlInit_v2()
    nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device))
    print(COLUMNS[what])
    for row in {"instructions": instructions, "tiles": tiles}[what]():
        cells = [f"{each:.4g}" if isinstance(each, float) else str(each) for each in row]
        print(",".join(cells), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
