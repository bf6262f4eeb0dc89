"""Which tiles the dense kernel takes: those of the lowest estimated time among those that fit."""

from math import nan
from typing import NamedTuple

import numpy as np

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.dense.estimate import Dense
from accelsim.kernels.attention.folding import (
    check_length,
    folds,
    is_short,
    query_heads,
    ways_through,
)
from accelsim.kernels.attention.precision import Precision, StepFormats, formats_of
from accelsim.kernels.estimate.choice import (
    Array,
    Estimate,
    fastest,
    grid,
    most_rivals,
    rivals_of,
    sizes,
)
from accelsim.kernels.estimate.footprint import fitting, larger
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer
from accelsim.workload.problem import AttentionProblem

_SOFTMAX_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Rows of a softmax tile that are tried."""


class DenseParameters(Spec):
    """Choices of the dense kernel."""

    tile_q: Size | None = None
    """Query rows of a product tile, in elements; absent: those of the lowest estimated time."""
    tile_k: Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""
    softmax_rows: Size | None = None
    """Whole rows of scores in one softmax tile; absent: those of the lowest estimated time."""
    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16_fp32 for FP16
    problems, fp32_scores for others."""
    fold: bool | None = None
    """Whether tiles are cut from the rows of all query heads that share a KV head, so that these
    read K and V once; absent: if that is estimated to be faster."""


class DenseTiles(NamedTuple):
    """What was chosen, and its estimate."""

    tile_q: int
    tile_k: int
    softmax_rows: int
    fold: bool
    cycles: float
    """nan where it was not asked for."""

    @property
    def parameters(self) -> dict[str, int | bool]:
        """What the program tells of them."""
        own = {"tile_q": self.tile_q, "tile_k": self.tile_k}
        return {**own, "softmax_rows": self.softmax_rows, "fold": self.fold}

    @property
    def sizes(self) -> tuple[int, int, int]:
        """What buffers are sized by."""
        return self.tile_q, self.tile_k, self.softmax_rows


class _Candidates(NamedTuple):
    """Sizes in elements, one of each for every candidate."""

    tile_q: Array
    tile_k: Array
    softmax_rows: Array
    fold: Array
    pair: Array
    """Number of the tiles of products, each with its own fold."""
    height: Array
    """Number of the tile of the softmax."""

    def at(self, own: Array) -> "_Candidates":
        """Return some candidates."""
        return _Candidates(*(each[own] for each in self))


def dense_tiles(
    problem: AttentionProblem, machine: MachineSpec, parameters: DenseParameters
) -> DenseTiles:
    """Return the best tiles; raises DoesNotFitError if none of what was asked for fits.

    Tiles that are given need no estimate.
    """
    given = parameters.tile_q, parameters.tile_k, parameters.softmax_rows, parameters.fold
    return _rivals(problem, machine, parameters, None in given)[0]


def dense_rivals(
    problem: AttentionProblem, machine: MachineSpec, parameters: DenseParameters
) -> tuple[DenseTiles, ...]:
    """Return the tiles that may be the fastest, the best estimate first; raises DoesNotFitError."""
    return _rivals(problem, machine, parameters, True)


@remembered
def _rivals(
    problem: AttentionProblem,
    machine: MachineSpec,
    parameters: DenseParameters,
    is_estimated: bool,
) -> tuple[DenseTiles, ...]:
    formats = formats_of(problem, machine, parameters.precision)
    asked = _candidates(problem, parameters)
    known = _fitting(problem, machine, formats, asked)
    if not len(known.fold):
        raise _too_large(problem, machine, formats, asked)
    _check_length(problem, known)
    if not is_estimated:
        return (_tiles_at(known, 0, nan),)
    estimate = _estimate(problem, machine, formats, known)
    rivals = rivals_of(estimate.cycles, fastest(estimate), known[:4], most_rivals(machine))
    return tuple(_tiles_at(known, each, float(estimate.cycles[each])) for each in rivals)


def _tiles_at(known: _Candidates, place: int, cycles: float) -> DenseTiles:
    tile_q, tile_k, softmax_rows, fold = (each[place].item() for each in known[:4])
    return DenseTiles(tile_q, tile_k, softmax_rows, fold, cycles)


def _check_length(problem: AttentionProblem, known: _Candidates) -> None:
    """Refuse a problem of too many tiles; raises DoesNotFitError."""
    if is_short(problem, int(known.tile_q.min()), int(known.tile_k.min())):
        return
    for fold in np.unique(known.fold):
        own = known.at(known.fold == fold)
        check_length(f"dense on {problem.name}", problem, fold, own.tile_q, own.tile_k)


def _candidates(problem: AttentionProblem, parameters: DenseParameters) -> _Candidates:
    """Return what may be chosen from."""
    tile_k, ways, begins = sizes(parameters.tile_k, problem.kv_len), [], (0, 0)
    for fold in folds(problem, parameters.fold):
        rows = query_heads(problem, fold=fold).rows
        tile_q, own = sizes(parameters.tile_q, rows), parameters.softmax_rows
        softmax = np.unique(np.minimum([own] if own else _SOFTMAX_ROWS, rows))
        pairs = grid(tile_q, tile_k)
        pair, height = grid(np.arange(len(pairs[0])), np.arange(len(softmax)))
        each = (*(axis[pair] for axis in pairs), softmax[height], np.full(len(pair), fold))
        ways.append((*each, pair + begins[0], height + begins[1]))
        begins = len(pairs[0]), len(softmax)
    return _Candidates(*(np.concatenate(axes) for axes in zip(*ways, strict=True)))


def _fitting(
    problem: AttentionProblem, machine: MachineSpec, formats: StepFormats, own: _Candidates
) -> _Candidates:
    fits = fitting(
        machine, lambda builder, *each: allocate(builder, problem, formats, *each), *own[:3]
    )
    return own.at(fits)


def _estimate(
    problem: AttentionProblem, machine: MachineSpec, formats: StepFormats, own: _Candidates
) -> Estimate:
    """Return the estimate; phases are independent of each other, so each is asked once."""

    def dense(numbers: Array, *sizes: Array) -> tuple[Dense, list[Array]]:
        # Of each number one candidate; those that do not fit are another one.
        own_candidate = np.zeros(numbers.max() + 1, np.int64)
        own_candidate[numbers] = np.arange(len(numbers))
        heads = ways_through(problem, own.fold[own_candidate])
        return Dense(problem, machine, formats, heads), [each[own_candidate] for each in sizes]

    products, pairs = dense(own.pair, own.tile_q, own.tile_k)
    softmax, rows = dense(own.height, own.softmax_rows)
    cycles, loaded_bytes, steps = (each[own.pair] for each in products.products(*pairs))
    return Estimate(cycles + softmax.softmax(*rows)[own.height], loaded_bytes, steps)


def _too_large(
    problem: AttentionProblem, machine: MachineSpec, formats: StepFormats, own: _Candidates
) -> Exception:
    """Return the error of the smallest tiles."""
    sizes = [int(each.min()) for each in own[:3]]
    return misfit(
        f"dense on {problem.name}",
        machine,
        lambda builder: allocate(builder, problem, formats, *sizes),
    )


def allocate(
    builder: ProgramBuilder,
    problem: AttentionProblem,
    formats: StepFormats,
    tile_q: int,
    tile_k: int,
    softmax_rows: int,
) -> dict[str, Buffer]:
    """Declare the buffers of all three phases."""
    (dim, value_dim), cols, vector = problem.widths, problem.kv_len, formats.vector
    widest = max(problem.widths)

    def rows(name: str, cols: int, fmt: Format) -> Buffer:
        return builder.buffer(name, softmax_rows, cols, fmt)

    def tiles(name: str, rows: int, cols: int, fmt: Format) -> Buffer:
        return builder.buffer(name, rows, cols, fmt, slots=2)

    score_rows = rows("score_rows", cols, formats.scores)
    x = score_rows if vector == formats.scores else rows("x", cols, vector)
    weight_rows = x if formats.weights == vector else rows("weight_rows", cols, formats.weights)
    queries, keys = tiles("q", tile_q, dim, formats.stored), tiles("kv", tile_k, widest, formats.kv)
    return {
        "queries": queries,
        "keys": keys,
        "key_operands": keys
        if formats.keys == formats.kv
        else tiles("k_operand", tile_k, dim, formats.keys),
        "value_operands": keys
        if formats.values == formats.kv
        else tiles("v_operand", tile_k, value_dim, formats.values),
        "acc": builder.buffer(
            "acc", tile_q, larger(tile_k, value_dim), Format.FP32, slots=2, memory="accumulator"
        ),
        "scores": tiles("scores", tile_q, tile_k, formats.scores),
        "weights": tiles("weights", tile_q, tile_k, formats.weights),
        "output": builder.buffer("output", tile_q, value_dim, formats.output),
        "score_rows": score_rows,
        "x": x,
        "weight_rows": weight_rows,
        "row_max": rows("row_max", 1, vector),
        "row_sum": rows("row_sum", 1, vector),
    }
