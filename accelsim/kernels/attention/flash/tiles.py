"""Which tiles the flash kernel takes: those of the lowest estimated time among those that fit."""

from math import nan
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.config.spec import Size, Spec
from accelsim.errors import DoesNotFitError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.coded import check_coded
from accelsim.kernels.attention.flash.blocks import Tiling, tilings_of
from accelsim.kernels.attention.flash.estimate import OnlineEstimate, Order, online_costs
from accelsim.kernels.attention.flash.online_softmax import allocate
from accelsim.kernels.attention.flash.ranges import allocate_ranges, merge_cycles
from accelsim.kernels.attention.flash.turns import allocate_turns
from accelsim.kernels.attention.precision import Precision, StepFormats, formats_of
from accelsim.kernels.attention.stand_ins import largest, stand_ins
from accelsim.kernels.estimate.choice import (
    ALIKE_ITEMS,
    DOUBT,
    Estimate,
    fastest,
    most_rivals,
    one_after_the_other,
    rivals_of,
)
from accelsim.kernels.estimate.footprint import fitting_again
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.integer.code_form import CodedHeads
from accelsim.kernels.tiling import misfit
from accelsim.units import ceil_div
from accelsim.workload.problem import AttentionProblem

_FEW_SPLITS = (1, 2, 3, 4, 6, 8)
_USUAL_ROWS, _SHORTEST_RANGE = 64, 64
"""Query rows of a tile, for the number of ranges that fills all cores, and keys of the shortest."""


class FlashChoices(Spec):
    """Choices of the flash kernel, the form of its output apart."""

    tile_q: Size | None = None
    """Query rows of a tile, in elements; absent: those of the lowest estimated time."""
    tile_k: Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""
    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16_fp32 for FP16
    problems, fp32_scores for others."""
    query_tiles: Literal[1, 2] | None = None
    """Query tiles of a work item; 2 take turns on cube and vector unit and share K and V. Absent:
    those of the lowest estimated time."""
    fold: bool | None = None
    """Whether tiles are cut from the rows of all query heads that share a KV head, so that these
    read K and V once; absent: if that is estimated to be faster."""
    splits: Size | Literal["chosen"] | None = None
    """Ranges that the keys of a query tile are split into, a work item each; a second phase merges
    their results. chosen: as many as give the lowest estimated time; absent: one."""
    order: Order = "longest_first"
    """Which query tiles come first: those that see most keys, or all those of the first head."""
    scale_at: Literal["scores", "query"] = "scores"
    """Where 1/sqrt(d) is multiplied: to the scores, or to the query before the first product."""


class FlashParameters(CodedHeads, FlashChoices):
    """Choices of the flash kernel."""


def ranges_asked(parameters: FlashParameters) -> int:
    """Return the ranges of a query tile, which have been chosen or were asked for."""
    return int(parameters.splits or 1)


class FlashTiles(NamedTuple):
    """What was chosen, and its estimate."""

    tile_q: int
    tile_k: int
    query_tiles: int
    fold: bool
    cycles: float
    """nan where it was not asked for."""

    @property
    def parameters(self) -> dict[str, int | bool]:
        """What the program tells of them."""
        own = {"tile_q": self.tile_q, "tile_k": self.tile_k}
        return {**own, "query_tiles": self.query_tiles, "fold": self.fold}


def flash_tiles(
    problem: AttentionProblem, machine: MachineSpec, parameters: FlashParameters
) -> FlashTiles:
    """Return the best tiles; raises DoesNotFitError if none of what was asked for fits.

    Tiles that are given need no estimate.
    """
    parameters = with_splits(problem, machine, parameters)
    given = parameters.tile_q, parameters.tile_k, parameters.query_tiles, parameters.fold
    return _rivals(problem, machine, parameters, None in given)[0]


def flash_rivals(
    problem: AttentionProblem, machine: MachineSpec, parameters: FlashParameters
) -> tuple[FlashTiles, ...]:
    """Return the tiles that may be the fastest, the best estimate first; raises DoesNotFitError."""
    return _rivals(problem, machine, with_splits(problem, machine, parameters), True)


@remembered
def with_splits(
    problem: AttentionProblem, machine: MachineSpec, parameters: FlashParameters
) -> FlashParameters:
    """Return the parameters with a number of ranges; raises DoesNotFitError."""
    if parameters.splits != "chosen":
        return parameters
    found, errors = [], []
    for splits in _splits(problem, machine):
        own = parameters.model_copy(update={"splits": splits})
        try:
            found.append((_rivals(problem, machine, own, True)[0].cycles, own))
        except DoesNotFitError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return min(found, key=lambda each: each[0])[1]


def _splits(problem: AttentionProblem, machine: MachineSpec) -> list[int]:
    """Return the numbers of ranges to choose from: few ones, and those that fill all cores."""
    if problem.window:
        return [1]
    group = problem.q_heads // problem.kv_heads
    rows = sum(each.batch * each.q_len for each in problem.lengths)
    items = ceil_div(problem.kv_heads * group * rows, _USUAL_ROWS)
    most = ceil_div(problem.most_keys, _SHORTEST_RANGE)
    filling = {ceil_div(waves * machine.cores, items) for waves in (1, 2)}
    filling |= {max(1, waves * machine.cores // items) for waves in (1, 2)}
    return sorted({min(each, most) for each in filling | set(_FEW_SPLITS)})


@remembered
def _rivals(
    problem: AttentionProblem,
    machine: MachineSpec,
    parameters: FlashParameters,
    is_estimated: bool,
) -> tuple[FlashTiles, ...]:
    name = f"flash on {problem.name}"
    formats = formats_of(problem, machine, parameters.precision, parameters.form)
    check_coded(name, problem, parameters.form, formats.vector)
    counts: tuple[int, ...] = (parameters.query_tiles,) if parameters.query_tiles else (1, 2)
    if problem.window:
        counts = _for_windows(name, parameters)
    if ranges_asked(parameters) > 1:
        counts = _for_ranges(name, problem, parameters)
    sizes = problem if problem.sequences is None else largest(problem)
    splits = ranges_asked(parameters)
    sizes = sizes if splits == 1 else _of_ranges(sizes, splits)
    asked = tilings_of(sizes, parameters.tile_q, parameters.tile_k, parameters.fold, counts)
    known = asked.at(_fits(problem, machine, formats, asked, _declaring(parameters)))
    if not len(known.tile_q):
        raise _too_large(name, problem, machine, formats, asked, _declaring(parameters))
    parts = stand_ins(problem)
    for part in map(_without_window, parts):
        known.check_length(name, part)
    if not is_estimated:
        return (_tiles_at(known, 0, nan),)
    # An estimate follows sequences of any lengths, but no window.
    estimated = [problem] if problem.attended is None else list(map(_without_window, parts))
    if splits > 1:
        estimated = [_of_ranges(part, splits) for part in parts]
    estimate = one_after_the_other(
        [_estimate(each, machine, parameters, formats, known) for each in estimated]
    )
    if splits > 1:
        merges = [merge_cycles(each, machine, formats, known.tile_q, splits) for each in parts]
        estimate = estimate._replace(cycles=estimate.cycles + sum(merges))
    rivals = rivals_of(estimate.cycles, fastest(estimate, ALIKE_ITEMS), known, most_rivals(machine))
    return tuple(_tiles_at(known, each, float(estimate.cycles[each])) for each in rivals)


def _tiles_at(known: Tiling, place: int, cycles: float) -> FlashTiles:
    tile_q, tile_k, fold, query_tiles = (each[place].item() for each in known)
    return FlashTiles(tile_q, tile_k, query_tiles, fold, cycles)


def _for_windows(name: str, parameters: FlashParameters) -> tuple[int, ...]:
    """Return the query tiles of an item under a window: two in turn would share all key tiles."""
    if parameters.query_tiles == 2:
        raise WorkloadError(f"{name}: found query_tiles = 2 with a window, allowed: 1")
    return (1,)


def _for_ranges(
    name: str, problem: AttentionProblem, parameters: FlashParameters
) -> tuple[int, ...]:
    """Return the query tiles of an item whose keys are a range; raises WorkloadError."""
    found = {
        "query_tiles = 2": parameters.query_tiles == 2,
        "a window": problem.window is not None,
        f"codes = {parameters.codes}": parameters.form is not None,
    }
    for other, is_there in found.items():
        if is_there:
            raise WorkloadError(
                f"{name}: found splits = {parameters.splits} with {other}, allowed: 1"
            )
    return (1,)


def _declaring(parameters: FlashParameters) -> Any:
    """Return what declares the buffers of one query tile."""
    return allocate if ranges_asked(parameters) == 1 else allocate_ranges


def _of_ranges(problem: AttentionProblem, splits: int) -> AttentionProblem:
    """Return what stands for a problem in ranges: as many shorter sequences for each."""
    keys = ceil_div(problem.kv_len, splits)
    changed = {"batch": splits * problem.batch, "kv_len": keys, "causal": False}
    return problem.model_copy(update=changed)


def _without_window(problem: AttentionProblem) -> AttentionProblem:
    """Return what stands for a problem with a window in estimates: as many keys without a mask."""
    if problem.attended is None:
        return problem
    pairs = sum(
        each.score_pairs(1, causal=True, attended=problem.attended) for each in problem.lengths
    )
    rows = sum(each.batch * each.q_len for each in problem.lengths)
    changed = {"window": None, "sink_tokens": 0, "causal": False, "kv_len": ceil_div(pairs, rows)}
    return problem.model_copy(update=changed)


def _estimate(
    problem: AttentionProblem,
    machine: MachineSpec,
    parameters: FlashParameters,
    formats: StepFormats,
    tiling: Tiling,
) -> Estimate:
    """Return the estimate of all candidates."""
    online = OnlineEstimate(
        problem,
        machine,
        online_costs(formats, scale_query=parameters.scale_at == "query"),
        shares_weights=formats.weights == formats.vector,
        order=parameters.order,
        near=DOUBT,
    )
    return online.of(tiling)


def _fits(
    problem: AttentionProblem,
    machine: MachineSpec,
    formats: StepFormats,
    asked: Tiling,
    declare_one: Any,
) -> Any:
    """Return which candidates fit; declare_one: the buffers of one query tile."""

    def fits(declare: Any) -> Any:
        known = problem.widths, formats
        return fitting_again(machine, declare, known, asked.tile_q, asked.tile_k)

    return np.where(asked.query_tiles == 2, fits(allocate_turns), fits(declare_one))


def _too_large(
    name: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    formats: StepFormats,
    asked: Tiling,
    declare_one: Any,
) -> Exception:
    """Return the error of the smallest tiles."""
    tile_q, tile_k, _, query_tiles = (int(each[0]) for each in asked)
    declare = allocate_turns if query_tiles == 2 else declare_one
    return misfit(
        name, machine, lambda builder: declare(builder, problem.widths, formats, tile_q, tile_k)
    )
