"""Which tiles the flash kernel takes: those of the lowest estimated time among those that fit."""

from typing import Any, Literal, NamedTuple

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import Precision, StepFormats, step_formats
from accelsim.kernels.attention.flash_estimate import (
    OnlineEstimate,
    Order,
    Tiling,
    online_work,
    tilings_of,
)
from accelsim.kernels.attention.folding import check_length
from accelsim.kernels.attention.online_softmax import allocate
from accelsim.kernels.attention.turns import allocate_turns
from accelsim.kernels.estimate.choice import fastest
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.workload.problem import AttentionProblem


class FlashParameters(Spec):
    """Choices of the flash kernel."""

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
    order: Order = "longest_first"
    """Which query tiles come first: those that see most keys, or all those of the first head."""
    scale_at: Literal["scores", "query"] = "scores"
    """Where 1/sqrt(d) is multiplied: to the scores, or to the query before the first product."""


class FlashTiles(NamedTuple):
    """What was chosen, and its estimate."""

    tile_q: int
    tile_k: int
    query_tiles: int
    fold: bool
    cycles: float

    @property
    def parameters(self) -> dict[str, int | bool]:
        """What the program tells of them."""
        own = {"tile_q": self.tile_q, "tile_k": self.tile_k}
        return {**own, "query_tiles": self.query_tiles, "fold": self.fold}


@remembered
def flash_tiles(
    problem: AttentionProblem, machine: MachineSpec, parameters: FlashParameters
) -> FlashTiles:
    """Return the tiles; raises DoesNotFitError if none of what was asked for fits."""
    formats = step_formats(problem.dtype, parameters.precision)
    counts = (1, 2) if parameters.query_tiles is None else (parameters.query_tiles,)
    asked = parameters.tile_q, parameters.tile_k, parameters.fold
    tilings = list(tilings_of(problem, *asked, counts, parameters.order))
    fits = [_fitting(problem, machine, formats, each) for each in tilings]
    known = [each for each in fits if len(each.tile_q)]
    if not known:
        raise _too_large(problem, machine, formats, tilings[0])
    name = f"flash on {problem.name}"
    for each in known:
        check_length(name, problem, each.fold, each.tile_q * each.query_tiles, each.tile_k)
    work = online_work(problem, formats, scale_query=parameters.scale_at == "query")
    is_shared = formats.weights == formats.vector
    online = OnlineEstimate(problem, machine, work, shares_weights=is_shared)
    estimates = [online.of(each) for each in known]
    best, index = fastest(estimates)
    own = known[best]
    return FlashTiles(
        int(own.tile_q[index]),
        int(own.tile_k[index]),
        own.query_tiles,
        own.fold,
        float(estimates[best].cycles[index]),
    )


def _fitting(
    problem: AttentionProblem, machine: MachineSpec, formats: StepFormats, tiling: Tiling
) -> Tiling:
    declare: Any = allocate_turns if tiling.query_tiles == 2 else allocate
    fits = fitting(
        machine,
        lambda builder, *tiles: declare(builder, problem.head_dim, formats, *tiles),
        tiling.tile_q,
        tiling.tile_k,
    )
    return tiling.at(fits)


def _too_large(
    problem: AttentionProblem, machine: MachineSpec, formats: StepFormats, smallest: Tiling
) -> Exception:
    """Return the error of the smallest tiles."""
    declare: Any = allocate_turns if smallest.query_tiles == 2 else allocate
    tiles = int(smallest.tile_q[0]), int(smallest.tile_k[0])
    return misfit(
        f"flash on {problem.name}",
        machine,
        lambda builder: declare(builder, problem.head_dim, formats, *tiles),
    )
