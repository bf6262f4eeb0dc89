"""What it takes to bring numbers into a format: CPU time an element, with everything compiled."""

from collections.abc import Callable
from functools import partial
from time import process_time

import numpy as np

from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import encode_blocks
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.stochastic import MOST_RANDOM_BITS, STOCHASTIC_FORMATS, round_tile_stochastic
from accelsim.quantization.schemes import per_row
from benchmarks.measure import Measurement

ROWS, COLS = 256, 1024
BITS = 8
REPEATS = 9
CALLS = 8
"""Calls of a repeat, so that the clock of the CPU has enough to count."""


def formats() -> list[Measurement]:
    """Rounding of a tile in place, stochastic rounding, and encoding with scales."""
    values = np.random.default_rng(0).standard_normal((ROWS, COLS)).astype(np.float32)
    rounded = [fmt for fmt in Format if fmt != Format.FP32]
    measured = [
        *(_measured(f"rounding to {fmt}", partial(_round, values, fmt)) for fmt in rounded),
        *(
            _measured(f"rounding to {fmt}, stochastic", partial(_round_at_random, values, fmt))
            for fmt in STOCHASTIC_FORMATS
        ),
        _measured("int8, a scale a row (NumPy)", partial(per_row, values, BITS)),
    ]
    for axis, place in ((1, "rows"), (0, "columns")):
        measured += [
            _measured(f"{fmt}, blocks of {place}", partial(encode_blocks, values, fmt, axis))
            for fmt in BlockFormat
        ]
    return measured


def _round(values: np.ndarray, fmt: Format) -> None:
    round_tile(values.copy(), ROWS, COLS, fmt.code)


def _round_at_random(values: np.ndarray, fmt: Format) -> None:
    round_tile_stochastic(values.copy(), fmt.code, np.uint64(1), np.uint64(0), MOST_RANDOM_BITS)


def _measured(name: str, call: Callable[[], object]) -> Measurement:
    call()
    samples = [_cpu_seconds(call) / (CALLS * ROWS * COLS) * 1e9 for _ in range(REPEATS)]
    return Measurement(name=name, samples=samples, unit="ns/element")


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = process_time()
    for _ in range(CALLS):
        call()
    return process_time() - started
