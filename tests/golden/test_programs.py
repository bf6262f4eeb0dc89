"""Printed programs of the kernels on problems small enough to read.

After an intended change: `pytest tests/golden --update-golden`, then read the difference.
"""

from pathlib import Path

import pytest

from accelsim.kernels.registry import get_kernel
from accelsim.program.printer import format_program
from accelsim.program.verifier import verify
from accelsim.workload.problem import AttentionProblem, GemmProblem
from tests.handmade import machine_of

FOLDER = Path(__file__).parent / "programs"


def attention(**sizes):
    return AttentionProblem(kind="attention", name="tiny", **sizes)


PUBLISHED = {"groups": 2, "chunk_rows": 2, "base": "static", "use_bias": True}
"""Channel groups as their paper has them."""
PROGRAMS = {
    "gemm": (
        GemmProblem(kind="gemm", name="tiny", m=3, n=5, k=7),
        {"tile_m": 2, "tile_n": 4, "tile_k": 4},
    ),
    "outlier_split": (
        GemmProblem(kind="gemm", name="tiny", m=3, n=5, k=7),
        {"tile_m": 2, "tile_n": 4, "outlier_share": 0.3},
    ),
    "weight_only": (
        GemmProblem(kind="gemm", name="tiny", m=3, n=6, k=7),
        {"tile_m": 2, "tile_n": 4, "tile_k": 4, "group_rows": 3},
    ),
    "flash": (
        attention(q_heads=1, kv_heads=1, head_dim=4, q_len=2, kv_len=3),
        {"tile_q": 2, "tile_k": 2, "precision": "fp16", "scale_at": "query"},
    ),
    "flash-causal": (
        attention(q_heads=1, kv_heads=1, head_dim=4, q_len=2, kv_len=3, causal=True),
        {"tile_q": 2, "tile_k": 3},
    ),
    "tender": (
        GemmProblem(kind="gemm", name="tiny", m=3, n=5, k=6),
        {"tile_n": 4, "tile_k": 4, "activation_bits": 4, **PUBLISHED},
    ),
    "tender-row": (
        GemmProblem(kind="gemm", name="tiny", m=3, n=5, k=6),
        {"groups": 2, "tile_n": 4, "activation_bits": 4},
    ),
    "tender-candidates": (
        GemmProblem(kind="gemm", name="tiny", m=2, n=3, k=4),
        {"groups": 2, "activation_bits": 4, "candidates": 2},
    ),
    "requantized": (
        GemmProblem(kind="gemm", name="tiny", m=2, n=3, k=4),
        {"input": "quantized", **PUBLISHED},
    ),
    "quantized": (GemmProblem(kind="gemm", name="tiny", m=2, n=3, k=4), {}),
    "int_flash": (
        attention(q_heads=1, kv_heads=1, head_dim=4, q_len=2, kv_len=3),
        {"tile_q": 2, "tile_k": 2, "groups": 2},
    ),
    "sage": (
        attention(q_heads=1, kv_heads=1, head_dim=4, q_len=2, kv_len=3),
        {"tile_q": 2, "tile_k": 2, "pv": "fp8"},
    ),
    "flash-narrow-kv": (
        attention(
            q_heads=1,
            kv_heads=1,
            head_dim=4,
            value_dim=2,
            q_len=2,
            kv_len=3,
            dtype="bf16",
            kv_dtype="fp8_e4m3",
            kv_scales="peak",
        ),
        {"tile_q": 2, "tile_k": 3},
    ),
    "dense": (
        attention(q_heads=1, kv_heads=1, head_dim=4, q_len=2, kv_len=5),
        {"tile_q": 2, "tile_k": 3, "softmax_rows": 2},
    ),
}


def printed(name):
    problem, parameters = PROGRAMS[name]
    kernel = get_kernel(name.partition("-")[0])
    program, _ = kernel.record(problem, machine_of(), kernel.parameters(**parameters), None)
    verify(program)
    return format_program(program) + "\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_printed_program_is_the_golden_one(name, request):
    path = FOLDER / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(printed(name))
    assert printed(name) == path.read_text()


def test_every_golden_file_is_compared():
    assert {path.stem for path in FOLDER.iterdir()} == set(PROGRAMS)
