"""How a linear with shared scales is computed on a machine: by which unit, and who scales."""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.linear.mx.parameters import MxParameters
from accelsim.numerics.block_formats import BlockFormat, BlockLayout
from accelsim.numerics.formats import common_format
from accelsim.workload.problem import FLOAT_FORMATS

_ROWS = 64
"""Of X, for which two ways to rotate it are compared."""


class Plan(NamedTuple):
    """Formats and units."""

    name: str
    """The kernel and its problem, for messages."""
    activations: BlockFormat
    weights: BlockFormat
    on_array: bool
    """Whether the integer array multiplies; else the cube."""
    in_unit: bool
    """Whether that unit applies the scales; else blocks are drained, and the vector unit does."""
    rounds_up: bool = False
    """Whether scales that are powers of two are such that no element is clamped."""
    rotation: int = 0
    """Channels that are rotated together; 0: none are."""
    rotates_on_cube: bool = False

    @property
    def x(self) -> BlockLayout:
        """What shares a scale in X: elements of a row."""
        return self.activations.layout

    @property
    def w(self) -> BlockLayout:
        """What shares a scale in W: elements of a column, or of a square (DeepSeek-V3)."""
        layout = self.weights.layout
        return layout._replace(across=layout.block) if layout.scale == al.Format.FP32 else layout

    def rounds_up_in(self, layout: BlockLayout) -> bool:
        """Return whether scales of a format are rounded up: others are no powers of two."""
        return self.rounds_up and layout.scale == al.Format.E8M0

    @property
    def block(self) -> int:
        """Elements along k that are summed before they are scaled."""
        return min(self.x.block, self.w.block)

    @property
    def whole(self) -> int:
        """Elements along k that are whole blocks of both."""
        return max(self.x.block, self.w.block)

    @property
    def is_relative(self) -> bool:
        """Whether scales are those over the largest of their row or column."""
        return self.on_array and self.in_unit

    @property
    def product_format(self) -> al.Format:
        """Format at whose rate the cube multiplies."""
        if not self.in_unit:
            return common_format(self.x.element, self.w.element)
        return self.x.element if self.x.element.bits >= self.w.element.bits else self.w.element

    @property
    def blocks(self) -> str:
        """Formats, as messages tell them."""
        return f"{self.activations} x {self.weights}"


def plan_of(problem: al.GemmProblem, machine: al.MachineSpec, parameters: MxParameters) -> Plan:
    """Return how a linear is computed.

    Raises WorkloadError for a problem in integers, DoesNotFitError for formats that the machine has
    no unit for, and for both kinds of them at once.
    """
    name = f"mx on {problem.name}"
    if problem.dtype not in FLOAT_FORMATS:
        allowed = ", ".join(FLOAT_FORMATS)
        raise al.WorkloadError(f"{name}: found dtype {problem.dtype}, allowed: {allowed}")
    activations = parameters.activations or _usual_format(machine)
    weights = parameters.weights or activations
    elements = (activations.layout.element, weights.layout.element)
    on_array = elements[0].is_integer
    if on_array != elements[1].is_integer:
        raise al.DoesNotFitError(
            f"{name}: found activations = {activations} and weights = {weights}, allowed: elements "
            f"that are integers in both, for an integer array, or floating-point numbers in both"
        )
    plan = Plan(name, activations, weights, on_array, False, parameters.rounds_up)
    plan = plan._replace(in_unit=_scales_in_unit(plan, machine))
    if not on_array:
        _check_elements(plan, machine)
    return _with_rotation(plan, problem, machine, parameters)


def _usual_format(machine: al.MachineSpec) -> BlockFormat:
    """Return MXFP8 where the cube has FP8, else MXINT8 where there is an integer array."""
    has_fp8 = machine.cube is not None and al.Format.FP8_E4M3 in machine.cube.rates
    if machine.int_mac is None or has_fp8:
        return BlockFormat.MXFP8_E4M3
    return BlockFormat.MXINT8


def _with_rotation(
    plan: Plan, problem: al.GemmProblem, machine: al.MachineSpec, parameters: MxParameters
) -> Plan:
    rotation = parameters.rotation_of(problem)
    if rotation is None:
        return plan
    on_cube = parameters.rotate_on == "cube"
    if parameters.rotate_on is None:
        on_cube = is_faster_on_cube(machine, problem.dtype, rotation.block)
    if on_cube:
        machine.cube_for(f"{plan.name} with rotate_on = cube")
    return plan._replace(rotation=rotation.block, rotates_on_cube=on_cube)


def is_faster_on_cube(machine: al.MachineSpec, dtype: al.Format, size: int) -> bool:
    """Return whether a product with the Hadamard matrix should take less time than butterflies.

    A product is moved out of the accumulator; units work at the same time, so the slowest counts.
    """
    if machine.cube is None or dtype not in machine.cube.rates:
        return False
    costs, rows = OpCosts(machine), _ROWS
    stage = costs.vector("add", al.Format.FP32, rows, size, 2 * al.Format.FP32.bits)
    last = costs.vector("multiply", al.Format.FP32, rows, size, 2 * al.Format.FP32.bits)
    product = costs.product(rows, size, size, dtype, (dtype.bits, dtype.bits))
    on_cube = max(product, costs.move(rows, size, al.Format.FP32), last)
    return bool(on_cube < (size.bit_length() - 1) * stage + last)


def _check_elements(plan: Plan, machine: al.MachineSpec) -> None:
    """Refuse elements that the cube of the machine has not."""
    cube = machine.cube_for(plan.name)
    used = {plan.x.element, plan.w.element} if plan.in_unit else {plan.product_format}
    for fmt in sorted(used):
        if fmt not in cube.rates:
            raise al.DoesNotFitError(
                f"machine {machine.name}: its cube unit has no {fmt}, which {plan.name} uses for "
                f"{plan.blocks}; it has {', '.join(cube.rates)}"
            )


def _scales_in_unit(plan: Plan, machine: al.MachineSpec) -> bool:
    """Return whether the unit applies both scales itself."""
    if plan.on_array:
        array = machine.int_mac_for(plan.name)
        for fmt in (plan.x.element, plan.w.element):
            if fmt not in array.formats:
                raise al.DoesNotFitError(
                    f"machine {machine.name}: its int_mac unit has no {fmt}, which {plan.name} "
                    f"uses for {plan.blocks}; it has {', '.join(array.formats)}"
                )
        return array.can_align and {plan.x.scale, plan.w.scale} == {al.Format.E8M0}
    fewest = {str(fmt): least for fmt, least in machine.cube_for(plan.name).scales.items()}
    return all(fewest.get(each.scale, each.block + 1) <= each.block for each in (plan.x, plan.w))
