"""The phase that turns X into elements and scales in HBM.

Every tile of X gives the peaks of its blocks, their scales, and its elements, as `encode_blocks`
says them. Where scales are over the largest of their row, a work item has whole rows: the first
pass over X finds the peaks of all blocks, and the second one, over tiles that are still there if
one holds the row, makes elements.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.integer.known import Known, input_tensor
from accelsim.kernels.integer.phases import Loop
from accelsim.kernels.linear.mx.plan import Plan
from accelsim.kernels.linear.tiles import BufferSize
from accelsim.numerics.blocks import ScaleRule, scale_rule
from accelsim.quantization.rotation import hadamard_rotation

_SHARE = 8
"""Encoding X gets one part in so many of the scratchpad, as `integer.coding` has it."""
_ELEMENT_BYTES = 12
"""Of the scratchpad per element of a tile: twice 16 bits, 32 bits, twice 8 bits, and the scales."""
_FEWEST_ROWS = 16
_OPTIONAL = ("relative", "largest", "turned", "hadamard", "acc")


class Matrices(NamedTuple):
    """Matrices in HBM."""

    x: al.Tensor
    """[m, k]"""
    elements: al.Tensor
    """[m, k]"""
    scales: al.Tensor
    """[m, k / block]"""
    largest: al.Tensor
    """Largest scale of every row [m, 1]."""
    hadamard: al.Tensor
    """[rotation, rotation], +1 and -1."""


class Layout(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip."""

    tile_m: int
    tile_k: int
    panels: int
    """Tiles along a row."""
    run: int
    """Elements that share a scale."""
    rule: ScaleRule
    tensor_scale: float
    unit: float
    has_powers: bool
    """Whether scales are powers of two."""
    rotation: int
    """Channels that are rotated together; 0: none are."""
    rotates_on_cube: bool
    hbm: Matrices
    x: al.Buffer
    wide: al.Buffer
    elements: al.Buffer
    peaks: al.Buffer
    scales: al.Buffer
    relative: al.Buffer
    steps: al.Buffer
    largest: al.Buffer
    turned: al.Buffer
    hadamard: al.Buffer
    acc: al.Buffer


class Encoding(NamedTuple):
    """How X is encoded on a machine."""

    plan: Plan
    problem: al.GemmProblem
    tile_m: int
    tile_k: int

    @classmethod
    def of(cls, machine: al.MachineSpec, plan: Plan, problem: al.GemmProblem) -> "Encoding":
        """Choose the tiles of X: whole blocks, long rows of them, and work for all cores."""
        m, k, cores = problem.m, problem.k, machine.cores
        elements = max(1, int(machine.scratchpad.capacity) // (_SHARE * _ELEMENT_BYTES))
        run = max(plan.x.block, plan.rotation)
        cols, blocks = elements // _FEWEST_ROWS // run * run, al.ceil_div(k, run)
        if not plan.is_relative:
            even = al.ceil_div(k, max(1, cores // m))
            cols, blocks = min(cols, al.ceil_div(even, run) * run), 0
        tile_k = min(k, max(run, cols))
        panels = 1 if plan.is_relative else al.ceil_div(k, tile_k)
        rows = min(elements // (tile_k + blocks), al.ceil_div(m, max(1, cores // panels)))
        return cls(plan, problem, max(1, rows), tile_k)

    def buffers(self) -> list[BufferSize]:
        """Return the buffers."""
        rows, fp32 = self.tile_m, al.Format.FP32
        cols = self.problem.k if self.plan.is_relative else self.tile_k
        blocks = al.ceil_div(cols, self.plan.x.block)
        own = [
            BufferSize("x", rows, self.tile_k, self.problem.dtype, 2),
            BufferSize("wide", rows, self.tile_k, fp32),
            BufferSize("elements", rows, self.tile_k, self.plan.x.element, 2),
            BufferSize("peaks", rows, blocks, fp32),
            BufferSize("scales", rows, blocks, self.plan.x.scale, 2),
            BufferSize("steps", rows, blocks, fp32),
        ]
        if self.plan.is_relative:
            own.append(BufferSize("relative", rows, blocks, self.plan.x.scale, 2))
            own.append(BufferSize("largest", rows, 1, fp32, 2))
        if self.plan.rotation:
            own.append(BufferSize("turned", rows, self.tile_k, fp32))
        if self.plan.rotates_on_cube:
            size = self.plan.rotation
            own.append(BufferSize("hadamard", size, size, self.problem.dtype, 2))
            own.append(BufferSize("acc", rows, size, fp32, 2, "accumulator"))
        return [each._replace(name=f"encode_{each.name}") for each in own]

    def loop(
        self,
        builder: al.ProgramBuilder,
        known: Known,
        made: Matrices,
        buffers: dict[str, al.Buffer],
    ) -> Loop:
        """Return the loop over X; made: what it stores, in HBM."""
        m, k, x = self.problem.m, self.problem.k, self.plan.x
        own: dict[str, Any] = dict.fromkeys(_OPTIONAL, builder.no_buffer())
        for size in self.buffers():
            own[size.name.removeprefix("encode_")] = buffers[size.name]
        panels, tiles = al.ceil_div(k, self.tile_k), al.ceil_div(m, self.tile_m)
        layout = Layout(
            tile_m=self.tile_m,
            tile_k=self.tile_k,
            panels=panels,
            run=x.block,
            rule=scale_rule(x, self.plan.rounds_up_in(x)),
            tensor_scale=float(known.get("x_tensor_scale", 1.0)),
            unit=x.unit,
            has_powers=x.scale == al.Format.E8M0,
            rotation=self.plan.rotation,
            rotates_on_cube=self.plan.rotates_on_cube,
            hbm=made._replace(
                x=input_tensor(builder, known, "x", m, k, self.problem.dtype),
                hadamard=self._hadamard(builder),
            ),
            **own,
        )
        if self.plan.is_relative:
            return Loop(encode_relative, tiles, (layout,))
        return Loop(encode, tiles * panels, (layout,))

    def _hadamard(self, builder: al.ProgramBuilder) -> al.Tensor:
        """Place the matrix of a rotation in HBM, if the cube multiplies with it."""
        if not self.plan.rotates_on_cube:
            return builder.no_tensor()
        size = self.plan.rotation
        signs = np.sign(hadamard_rotation(size).matrix).astype(np.float32)
        data = signs if builder.with_numbers else None
        return builder.tensor("hadamard", "input", size, size, self.problem.dtype, data)


def place_input(
    builder: al.ProgramBuilder, plan: Plan, problem: al.GemmProblem, known: Known, is_made: bool
) -> Matrices:
    """Place the encoded X in HBM; is_made: its producer has made it."""
    m, k, x = problem.m, problem.k, plan.x
    none, blocks = builder.no_tensor(), al.ceil_div(k, x.block)
    largest = none

    def place(name: str, cols: int, fmt: al.Format) -> al.Tensor:
        if is_made:
            return input_tensor(builder, known, name, m, cols, fmt)
        return builder.tensor(name, "intermediate", m, cols, fmt)

    elements, scales = place("x_elements", k, x.element), place("x_scales", blocks, x.scale)
    if plan.is_relative:
        largest = place("x_largest", 1, al.Format.FP32)
    return Matrices(none, elements, scales, largest, none)


@al.jit
def encode(p, phase, k):
    """All tiles of X, a work item each."""
    for item in range(-(-k.hbm.x.rows // k.tile_m) * k.panels):
        al.begin_item(p, phase)
        at = _piece(item // k.panels, item % k.panels, k)
        x = _loaded(p, item, at, k)
        blocks = -(-at.cols // k.run)
        peaks, scales = (
            al.tile(k.peaks, 0, at.rows, blocks),
            al.tile(k.scales, item, at.rows, blocks),
        )
        _find_peaks(p, peaks, x, k)
        al.block_scales(p, scales, peaks, k.rule, k.tensor_scale)
        al.store(p, k.hbm.scales, at.row, at.col // k.run, scales)
        steps = al.tile(k.steps, 0, at.rows, blocks)
        al.block_steps(p, steps, scales, k.tensor_scale, k.unit)
        _store_elements(p, item, x, steps, at, k)


@al.jit
def encode_relative(p, phase, k):
    """All row tiles of X, with scales over the largest of their row."""
    all_blocks = -(-k.hbm.x.cols // k.run)
    for item in range(-(-k.hbm.x.rows // k.tile_m)):
        al.begin_item(p, phase)
        first = _piece(item, 0, k)
        peaks = al.tile(k.peaks, 0, first.rows, all_blocks)
        for panel in range(k.panels):
            at = _piece(item, panel, k)
            x = _loaded(p, item * k.panels + panel, at, k)
            _find_peaks(p, al.columns(peaks, at.col // k.run, -(-at.cols // k.run)), x, k)
        scales = al.tile(k.scales, item, first.rows, all_blocks)
        al.block_scales(p, scales, peaks, k.rule, k.tensor_scale)
        steps = al.tile(k.steps, 0, first.rows, all_blocks)
        al.block_steps(p, steps, scales, k.tensor_scale, k.unit)
        _store_relative(p, item, scales, peaks, first.row, k)
        for panel in range(k.panels):
            at, turn = _piece(item, panel, k), item * k.panels + panel
            own = al.columns(steps, at.col // k.run, -(-at.cols // k.run))
            x = al.tile(k.turned if k.rotation > 0 else k.x, turn, at.rows, at.cols)
            if k.panels > 1:
                x = _loaded(p, turn, at, k)
            _store_elements(p, turn, x, own, at, k)


@al.jit_inner
def _piece(row_tile, panel, k):
    return block_at(k.hbm.x, row_tile * k.tile_m, panel * k.tile_k, k.tile_m, k.tile_k)


@al.jit_inner
def _loaded(p, turn, at, k):
    """Return a tile of X, rotated if X is."""
    x = al.tile(k.x, turn, at.rows, at.cols)
    al.load(p, x, k.hbm.x, at.row, at.col)
    if k.rotation > 0:
        turned = al.tile(k.turned, 0, at.rows, at.cols)
        if k.rotates_on_cube:
            _rotate_on_cube(p, turn, turned, x, k)
        else:
            al.hadamard(p, turned, x, k.rotation)
        x = turned
    return x


@al.jit_inner
def _rotate_on_cube(p, turn, turned, x, k):
    """Multiply every block of channels with the matrix of signs, and all of it with its norm."""
    size = k.rotation
    matrix = al.tile(k.hadamard, turn, size, size)
    al.load(p, matrix, k.hbm.hadamard, 0, 0)
    for block in range(x.cols // size):
        acc = al.tile(k.acc, block, x.rows, size)
        al.matmul(p, acc, al.columns(x, block * size, size), matrix, False)
        al.move(p, al.columns(turned, block * size, size), acc)
    al.scale(p, turned, turned, 1 / np.sqrt(size))


@al.jit_inner
def _find_peaks(p, peaks, x, k):
    """The largest magnitude of every block of a tile."""
    wide = al.tile(k.wide, 0, x.rows, x.cols)
    al.magnitude(p, wide, x)
    al.run_peaks(p, peaks, wide, k.run)


@al.jit_inner
def _store_relative(p, item, scales, over, row, k):
    """Store the largest scale of every row, and all scales over it; `over` is overwritten."""
    largest = al.tile(k.largest, item, scales.rows, 1)
    relative = al.tile(k.relative, item, scales.rows, scales.cols)
    al.row_max(p, largest, scales)
    al.divide_column(p, over, scales, largest)
    al.convert(p, relative, over)
    al.store(p, k.hbm.largest, row, 0, largest)
    al.store(p, k.hbm.scales, row, 0, relative)


@al.jit_inner
def _store_elements(p, turn, x, steps, at, k):
    """Divide a tile by the steps of its blocks, and store the elements."""
    elements = al.tile(k.elements, turn, at.rows, at.cols)
    wide = al.tile(k.wide, 0, at.rows, at.cols)
    al.block_elements(p, elements, wide, x, steps, k.run, k.has_powers)
    al.store(p, k.hbm.elements, at.row, at.col, elements)
