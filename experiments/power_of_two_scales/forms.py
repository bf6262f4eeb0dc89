"""The forms that are compared: what shares a scale in X and in W, and where each is computed.

A form is a scheme for the values and a recipe on a machine for the costs. All machines have the
memories and the vector unit of the `tender-asic`, and arithmetic of its area at 28 nm.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from accelsim import Recipe
from accelsim.numerics.block_formats import BlockFormat
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions
from accelsim.quantization.rotation import Rotation, hadamard_rotation
from accelsim.quantization.row_bases import best_rows
from accelsim.quantization.schemes import per_block, per_column, per_row
from accelsim.quantization.statements import grouped_values
from accelsim.workload.model.llama import Array

LARGEST_BLOCK = 128
"""Channels that a rotation takes together, or as many as a power of two divides k by."""
FEW_LEVELS = {"candidates": 6, "quantile": 0.999}
GROUPS = {
    8: GroupOptions(),
    4: GroupOptions(bits=4, **FEW_LEVELS),
}
"""Bits -> channel groups with the base of every row; in 4 bits a row takes the best of six."""

Encoder = Callable[[Array, Any], Any]
"""(x [rows, k], groups of its channels) -> what its codes stand for"""


class Form(NamedTuple):
    """What shares a scale."""

    name: str
    family: str
    design: str
    recipe: Recipe
    activations: Encoder
    weights: Callable[[Array], Any]
    """w [k, n] -> what its codes stand for"""
    is_rotated: bool = False
    group_bits: int = 0
    """Bits of the calibration that it needs; 0: none."""


class Design(NamedTuple):
    """A machine whose arithmetic has the area of the `tender-asic`, and what is set of it."""

    machine: str
    settings: dict[str, Any]


ARRAY = "machine.int_mac."
PLAIN = {f"{ARRAY}rows": 68, f"{ARRAY}cols": 70, f"{ARRAY}can_shift": False}
DESIGNS = {
    "doubles sums": Design("tender-asic", {}),
    "plain array": Design("tender-asic", PLAIN),
    "aligns sums": Design("mxint-asic", {}),
    "cube": Design("mx-asic", {}),
}
"""Arrays without the shift have 68 x 70 elements in the area of 64 x 64 with it."""


def rotation_of(k: int) -> Rotation:
    """Return the rotation of k channels that the kernels choose."""
    return hadamard_rotation(k, min(k & -k, LARGEST_BLOCK))


def _rows(bits: int, tries: int = 1) -> Encoder:
    def encode(x: Array, _groups: None) -> Any:
        if tries == 1:
            return per_row(x, bits).values
        return best_rows(x, np.ones(x.shape[1], np.float32), bits, tries).values

    return encode


def _grouped(x: Array, groups: ChannelGroups) -> Any:
    return grouped_values(x, groups)


def _blocks(fmt: BlockFormat) -> Encoder:
    return lambda x, _groups: per_block(x, fmt, axis=1).values


def _columns(bits: int) -> Callable[[Array], Any]:
    return lambda w: per_column(w, bits).values


def _row_form(name: str, bits: int, tries: int = 1, *, is_rotated: bool = False) -> Form:
    own: dict[str, Any] = {"activation_bits": bits, "weight_bits": bits}
    own |= {"rotation": "hadamard"} if is_rotated else {}
    kernel = "quantized"
    if tries > 1:
        kernel, own = "tender", own | {"groups": 1, "candidates": tries}
    encoder, weights = _rows(bits, tries), _columns(bits)
    recipe = Recipe(kernel, **own)
    return Form(name, "row", "plain array", recipe, encoder, weights, is_rotated)


def _group_form(name: str, bits: int) -> Form:
    own = {"activation_bits": bits, "weight_bits": bits, "candidates": GROUPS[bits].candidates}
    recipe, weights = Recipe("tender", **own), _columns(bits)
    return Form(name, "groups", "doubles sums", recipe, _grouped, weights, group_bits=bits)


def _block_form(
    name: str, fmt: BlockFormat, design: str = "cube", *, is_rotated: bool = False
) -> Form:
    own = {"rotation": "hadamard"} if is_rotated else {}
    recipe = Recipe("mx", activations=str(fmt), **own)
    weights = partial(_block_weights, fmt)
    return Form(name, "blocks", design, recipe, _blocks(fmt), weights, is_rotated)


def _block_weights(fmt: BlockFormat, w: Array) -> Any:
    return per_block(w, fmt, axis=0).values


FORMS = {
    form.name: form
    for form in (
        _row_form("INT8 row", 8),
        _row_form("INT8 row, rotated", 8, is_rotated=True),
        _group_form("INT8 groups", 8),
        _block_form("MXINT8", BlockFormat.MXINT8, "aligns sums"),
        _block_form("MXFP8", BlockFormat.MXFP8_E4M3),
        _block_form("MXFP6", BlockFormat.MXFP6_E2M3),
        _block_form("MXFP6, rotated", BlockFormat.MXFP6_E2M3, is_rotated=True),
        _row_form("INT4 row", 4),
        _row_form("INT4 row, rotated", 4, is_rotated=True),
        _group_form("INT4 groups, best of 6", 4),
        _row_form("INT4 row, rotated, best of 6", 4, 6, is_rotated=True),
        _block_form("MXFP4", BlockFormat.MXFP4),
        _block_form("MXFP4, rotated", BlockFormat.MXFP4, is_rotated=True),
        _block_form("NVFP4", BlockFormat.NVFP4),
        _block_form("NVFP4, rotated", BlockFormat.NVFP4, is_rotated=True),
    )
}
OWN_WEIGHTS = [
    name for name, form in FORMS.items() if not form.group_bits and "best of" not in name
]
"""Forms whose weights are not those of another."""
