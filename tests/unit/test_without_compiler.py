"""NUMBA_DISABLE_JIT=1 changes nothing but speed: same programs, same numbers, same cycles."""

import json
import math
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np
import pytest

from accelsim.accounts.activity import count_activity
from accelsim.engine import compiled, reference
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.runtime.jit import jit
from accelsim.workload.problem import AttentionProblem, GemmProblem
from accelsim.workload.tensors import load_tensors

ROOT = Path(__file__).parents[2]
TENSORS = {"source": "uniform", "mean": 0.5, "amplitude": 4, "seed": 3}
ATTENTION = AttentionProblem(
    kind="attention",
    name="tiny",
    q_heads=2,
    kv_heads=1,
    head_dim=8,
    q_len=40,
    kv_len=60,
    causal=True,
    tensors=TENSORS,
)
GEMM = GemmProblem(kind="gemm", name="tiny", m=12, n=9, k=20, tensors=TENSORS)
RUNS = {
    "gemm": ("gemm", GEMM, {"tile_m": 8, "tile_n": 8, "tile_k": 8}),
    "flash fp32": ("flash", ATTENTION, {"tile_q": 16, "tile_k": 16, "precision": "fp32"}),
    "flash fp16": ("flash", ATTENTION, {"tile_q": 16, "tile_k": 16, "precision": "fp16"}),
    "pasa": ("pasa", ATTENTION, {"tile_q": 16, "tile_k": 16}),
    "centered": ("centered", ATTENTION, {"tile_q": 16, "tile_k": 16}),
}


def digest(values):
    return sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def traces():
    """Return, for each run, what must not depend on the compiler, as JSON can hold it."""
    machine = load_machine("edge-npu", {"cores": 2})
    found = {"compiled": not numba.config.DISABLE_JIT}
    for name, (kernel_name, problem, settings) in RUNS.items():
        kernel = get_kernel(kernel_name)
        tensors = load_tensors(problem, ROOT)
        program, output = kernel.record(problem, machine, kernel.parameters(**settings), tensors)
        found[name] = {"words": digest(program.ops), "numbers": digest(output)}
        for engine in (compiled, reference):
            run = engine.schedule(program, machine)
            times = [digest(each) for each in (run.start, run.end, run.cause, run.core)]
            accounts = [run.busy_by_core.tolist(), run.stalls.tolist()]
            activity = str(count_activity(run, machine))
            found[name][engine.__name__] = [run.cycles, *times, *accounts, activity]
    return found


@pytest.fixture(scope="module")
def interpreted():
    command = f"import json; from {__name__} import traces; print(json.dumps(traces()))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", command],
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_compiler_was_off(interpreted):
    assert not interpreted["compiled"]


@pytest.mark.parametrize("name", RUNS)
def test_words_numbers_and_cycles_are_the_same(interpreted, name):
    if numba.config.DISABLE_JIT:
        pytest.skip("the compiler is off here too")
    assert interpreted[name] == json.loads(json.dumps(traces()[name]))


@jit
def _exponentials(p, x):
    al.begin_item(p, 0)
    values = al.tile(x, 0, x.rows, x.cols)
    al.exp(p, values, values)


def test_the_exponential_is_that_of_a_double_rounded_once():
    """The single-precision function of a C library is off by an ulp for about one value in 1700."""
    builder = ProgramBuilder("exp", with_numbers=True)
    buffer = builder.buffer("x", 100, 200, Format.FP32)
    values = -90 * np.random.default_rng(0).random((100, 200), np.float32)
    buffer.data[0] = values
    builder.record(_exponentials, 1, buffer)
    expected = [math.exp(value) for value in values.ravel().tolist()]
    np.testing.assert_array_equal(buffer.data.ravel(), np.array(expected, np.float32))
