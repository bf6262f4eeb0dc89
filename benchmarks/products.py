"""What a multiply-accumulate with its numbers takes: CPU time, with everything compiled."""

from collections.abc import Callable
from functools import partial
from time import process_time

import numpy as np

from accelsim.numerics.block_products import (
    Runs,
    aligned_multiply_accumulate,
    scaled_multiply_accumulate,
)
from accelsim.numerics.formats import FP32
from accelsim.numerics.integer import Accumulator
from accelsim.numerics.integer import multiply_accumulate as multiply_integers
from accelsim.numerics.matmul import multiply_accumulate
from accelsim.runtime.jit import jit
from benchmarks.measure import Measurement

M, N, K = 128, 256, 512
REPEATS = 9
HOLDS = Accumulator(32, False)


def products() -> list[Measurement]:
    """Products of tiles without scales, and with scales that blocks share."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((M, K), (K, N)))
    codes = [rng.integers(-127, 128, shape).astype(np.int32) for shape in ((M, K), (K, N))]
    acc, sums = np.zeros((M, N), np.float32), np.zeros((M, N), np.int32)
    aligned = partial(_aligned, sums, *codes, *_scales(32))
    return [
        _measured("FP8 elements", partial(_plain, acc, a, b)),
        *(
            _measured(f"a scale for {run} elements", partial(_scaled, acc, a, b, *_scales(run)))
            for run in (16, 32, 128)
        ),
        _measured("INT8", partial(_integers, sums, *codes)),
        _measured("INT8, blocks of 32 aligned", aligned),
    ]


def _scales(run: int) -> tuple[np.ndarray, np.ndarray, Runs]:
    scales = np.full((M, K // run), 0.5, np.float32), np.full((K // run, N), 0.25, np.float32)
    return *scales, Runs(run, run, 1)


@jit
def _plain(acc, a, b):
    multiply_accumulate(acc, a, b, acc.shape[0], acc.shape[1], a.shape[1], FP32, False)


@jit
def _scaled(acc, a, b, scales_a, scales_b, runs):
    scaled_multiply_accumulate(acc, a, b, scales_a, scales_b, runs, False)


@jit
def _integers(acc, a, b):
    multiply_integers(acc, a, b, 16, HOLDS, False)


@jit
def _aligned(acc, a, b, scales_a, scales_b, runs):
    aligned_multiply_accumulate(acc, a, b, scales_a, scales_b, runs, 5, HOLDS, False)


def _measured(name: str, call: Callable[[], object]) -> Measurement:
    call()
    samples = [_cpu_seconds(call) / (M * N * K) * 1e9 for _ in range(REPEATS)]
    return Measurement(name=f"product, {name}", samples=samples, unit="ns/MAC")


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = process_time()
    call()
    return process_time() - started
