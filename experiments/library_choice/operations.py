"""What is asked of the library, and what a patient user would try by hand instead."""

from collections.abc import Iterator
from itertools import product

from accelsim.library.recipe import Recipe
from accelsim.workload.problem import AttentionProblem, GemmProblem, Problem, VectorProblem

MACHINES = ("ascend-910b", "ascend-910b-no-l2", "ascend-910b-banked")
HEADS = {"Qwen2-7B": (28, 4, 128), "Llama-3-8B": (32, 8, 128), "SmolLM2": (9, 3, 64)}
"""Model -> query heads, KV heads, elements of a head."""
HEADS |= {"two heads": (2, 2, 128), "64 heads": (64, 8, 128)}
LINEARS = {
    "square": (1024, 1024),
    "SmolLM2 down": (576, 1536),
    "Llama-3-8B qkv": (6144, 4096),
    "Llama-3-8B down": (4096, 14336),
    "Qwen2-7B gate-up": (37888, 3584),
}
"""Linear -> output and input features."""
PREFILL = (16, 128, 512, 1024, 2048, 4096)
DECODE = ((1, 128), (1, 1024), (1, 4096), (1, 32768), (16, 1024), (16, 4096))
"""Sequences, and tokens in the cache of each."""
ROWS = (1, 16, 128, 1000, 4096)
MOST_PAIRS = 2**28
"""Query-key pairs of the largest prefill: all heads are alike, so more of them say no more."""
MOST_MACS = 2**36
MOST_STEPS = 2**15
"""Pairs of a query tile and a key tile of a prompt that is tried by hand: nobody cuts a long prompt
into the smallest tiles."""
QUERY_TILES = (16, 32, 64, 96, 128, 192, 256)
KEY_TILES = (32, 64, 96, 128, 192, 256, 384, 512)
"""Few of them cut a length into equal pieces."""


def prefills() -> Iterator[AttentionProblem]:
    """Yield prompts: short and long, of few and many heads, masked or not."""
    for (model, heads), length, causal in product(HEADS.items(), PREFILL, (True, False)):
        if heads[0] * length**2 <= MOST_PAIRS:
            yield _attention(f"{model}, {length}", heads, length, length, causal=causal)


def drafts() -> Iterator[AttentionProblem]:
    """Yield a few new tokens behind a cache, as in verifying a draft or in a chunked prefill."""
    for (model, heads), new in product(HEADS.items(), (2, 8, 64, 512)):
        yield _attention(f"{model}, {new} after 4096", heads, new, 4096 + new, causal=True)


def decodes() -> Iterator[AttentionProblem]:
    """Yield steps of generation."""
    for (model, heads), (batch, cached) in product(HEADS.items(), DECODE):
        yield _attention(f"{model}, {batch} x {cached}", heads, 1, cached, batch=batch)


def linears() -> Iterator[GemmProblem]:
    """Yield linears of one token to thousands."""
    for (name, (n, k)), m in product(LINEARS.items(), ROWS):
        if m * n * k <= MOST_MACS:
            yield GemmProblem(kind="gemm", name=f"{name}, {m}", m=m, n=n, k=k)


def vectors() -> Iterator[VectorProblem]:
    """Yield norms, activations and a softmax."""
    functions = ("rmsnorm", "softmax", "silu_mul")
    for function, rows, cols in product(functions, (1, 64, 4096), (1024, 8192)):
        name = f"{function} {rows} x {cols}"
        yield VectorProblem(kind="vector", name=name, function=function, rows=rows, cols=cols)


def _attention(
    name: str, heads: tuple[int, int, int], q_len: int, kv_len: int, **fields: object
) -> AttentionProblem:
    q_heads, kv_heads, head_dim = heads
    sizes = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim}
    lengths = {"q_len": q_len, "kv_len": kv_len}
    return AttentionProblem.model_validate(
        {"kind": "attention", "name": name, **sizes, **lengths, **fields}
    )


OPERATIONS = {
    "prefill": prefills,
    "draft": drafts,
    "decode": decodes,
    "linear": linears,
    "vector": vectors,
}
"""Kind -> its operations."""


def by_hand(problem: Problem) -> Iterator[Recipe]:
    """Yield the recipes that somebody would try."""
    if isinstance(problem, GemmProblem):
        yield from _products(problem)
    elif isinstance(problem, VectorProblem):
        yield from (Recipe("vector", tile_rows=rows) for rows in (1, 2, 4, 8, 16, 32, 64))
    elif problem.q_len == 1:
        yield from _decodes(problem)
    else:
        yield from _prefills(problem)


def _prefills(problem: AttentionProblem) -> Iterator[Recipe]:
    rows = problem.q_len * problem.q_heads // problem.kv_heads
    pairs = problem.q_heads * problem.q_len * problem.kv_len
    for tile_q, tile_k, query_tiles in product(QUERY_TILES, KEY_TILES, (1, 2)):
        is_useful = tile_q <= max(16, 2 * rows) and tile_k <= 2 * problem.kv_len
        if is_useful and pairs <= MOST_STEPS * tile_q * tile_k:
            yield Recipe("flash", tile_q=tile_q, tile_k=tile_k, query_tiles=query_tiles)


def _decodes(problem: AttentionProblem) -> Iterator[Recipe]:
    splits = [each for each in (1, 2, 3, 4, 6, 8, 12, 24, 48) if 16 * each <= problem.kv_len]
    for each, tile_k, stages in product(splits, (64, 128, 256, 512), (2, 3, 4)):
        yield Recipe("split_kv", splits=each, tile_k=tile_k, stages=stages)
    for tile_k in (64, 128, 256):
        yield Recipe("flash", tile_k=tile_k)


def _products(problem: GemmProblem) -> Iterator[Recipe]:
    sizes = (16, 64, 128, 192, 256, 512)
    sides = product(sizes, sizes, (64, 128, 256), (2, 3), (1, 4))
    for tile_m, tile_n, tile_k, stages, splits in sides:
        fits = tile_m < 2 * max(problem.m, sizes[0]) and tile_n < 2 * problem.n
        if fits and (splits == 1 or problem.m <= 2 * tile_m):
            tiles = {"tile_m": tile_m, "tile_n": tile_n, "tile_k": tile_k}
            yield Recipe("gemm", **tiles, stages=stages, splits=splits)
