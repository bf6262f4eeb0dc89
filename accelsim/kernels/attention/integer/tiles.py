"""Tiles of attention in integers: what fits, and of that what should take the least time."""

from collections.abc import Callable
from functools import cache

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import tilings_of
from accelsim.kernels.attention.flash.estimate import (
    DIM,
    OnlineEstimate,
    of_items,
    online_work,
)
from accelsim.kernels.attention.flash.online_estimate import Units, Work
from accelsim.kernels.attention.integer.parameters import IntFlashParameters
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.estimate.choice import ALIKE_ITEMS, fastest_of
from accelsim.kernels.estimate.costs import (
    ONE,
    Cost,
    CostTable,
    int_product,
    moved_bytes,
    vector_op,
)
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.integer.code_form import CodeForm
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.ops import Unit
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
    bits = (parameters.bits, parameters.weight_bits)
    costs = _costs(problem.dtype, bits, parameters.groups, parameters.form)
    online = OnlineEstimate(problem, machine, costs, Units(Unit.INT_MAC, Unit.INT_MAC))
    best = fastest_of(len(known.tile_q), lambda: online.of(known), ALIKE_ITEMS)
    return int(known.tile_q[best]), int(known.tile_k[best])


@cache
def _costs(
    stored: Format, code_bits: tuple[int, int], groups: int, form: CodeForm | None
) -> CostTable:
    """Return the costs of query tiles; see the parameters."""
    formats = step_formats(stored, "fp32", coded=form)
    (bits, weight_bits), fp32, width = code_bits, Format.FP32, Format.FP32.bits

    def work(rows: int, keys: int) -> Work:
        plain = online_work(formats, rows, keys, scale_query=False)

        def on_scores(op: str, moved_bits: int) -> Cost:
            return vector_op(op, fp32, rows, keys, moved_bits)

        coding = on_scores("convert", 2 * width) + on_scores("multiply", 2 * width)
        return plain._replace(
            query_bytes=moved_bytes(rows, DIM, bits),
            key_bytes=moved_bytes(keys, DIM, bits) + moved_bytes(keys, ONE, width),
            value_bytes=moved_bytes(keys, DIM, bits),
            scores=int_product(rows, keys, DIM, groups - 1, (bits, bits)),
            softmax=plain.softmax + coding + on_scores("convert", width + weight_bits),
            weighted=int_product(rows, DIM, keys, 0, (weight_bits, bits)),
            merge=plain.merge + vector_op("convert", fp32, rows, DIM, 2 * width),
        )

    return of_items(work)
