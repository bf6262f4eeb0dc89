"""Tiles of attention in integers: what fits, and of that what should take the least time."""

from collections.abc import Callable
from typing import Any

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import tilings_of
from accelsim.kernels.attention.flash.estimate import OnlineEstimate, online_work
from accelsim.kernels.attention.flash.online_estimate import Work
from accelsim.kernels.attention.integer.parameters import IntFlashParameters
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.estimate.choice import fastest
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import AttentionProblem


@remembered
def fastest_tiles(
    name: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    parameters: IntFlashParameters,
    allocate: Callable[[ProgramBuilder, tuple[int, ...]], object],
) -> tuple[int, int]:
    """Return the tiles of the lowest estimated time; raises DoesNotFitError if none fit."""
    asked = tilings_of(problem, parameters.tile_q, parameters.tile_k, fold=False)
    known = asked.at(fitting(machine, lambda b, *own: allocate(b, own), *asked[:2]))
    if not len(known.tile_q):
        smallest = int(asked.tile_q.min()), int(asked.tile_k.min())
        raise misfit(name, machine, lambda builder: allocate(builder, smallest))
    known.check_length(name, problem)
    work = _work_of(problem, parameters)
    best = fastest(OnlineEstimate(problem, machine, work, Unit.INT_MAC).of(known))
    return int(known.tile_q[best]), int(known.tile_k[best])


def _work_of(
    problem: AttentionProblem, parameters: IntFlashParameters
) -> Callable[[OpCosts, Any, Any], Work]:
    """Return what gives the work of a query tile."""
    plain = online_work(problem, step_formats(problem.dtype, "fp32"), scale_query=False)
    bits, weight_bits, dim = parameters.bits, parameters.weight_bits, problem.head_dim
    width = Format.FP32.bits

    def work(costs: OpCosts, rows: Any, tile_k: Any) -> Work:
        own, code_bytes = plain(costs, rows, tile_k), dim * bits / BITS_PER_BYTE

        def on_scores(op: str, moved_bits: int) -> Any:
            return costs.vector(op, Format.FP32, rows, tile_k, moved_bits)

        shifts = parameters.groups - 1
        coding = on_scores("convert", 2 * width) + on_scores("multiply", 2 * width)
        return own._replace(
            query_bytes=rows * code_bytes,
            key_bytes=tile_k * (code_bytes + width / BITS_PER_BYTE),
            value_bytes=tile_k * code_bytes,
            scores=costs.int_product(rows, tile_k, dim, shifts, (bits, bits)),
            softmax=own.softmax + coding + on_scores("convert", width + weight_bits),
            weighted=costs.int_product(rows, dim, tile_k, 0, (weight_bits, bits)),
            merge=own.merge + costs.vector("convert", Format.FP32, rows, dim, 2 * width),
        )

    return work
