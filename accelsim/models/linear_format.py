"""The number format in which the linear maps of layers are stored and multiplied."""

from dataclasses import replace

from accelsim.errors import WorkloadError, did_you_mean
from accelsim.models.architecture import Architecture
from accelsim.numerics.formats import Format
from accelsim.runtime.kept import once_for_each

MULTIPLIED = (Format.FP8_E4M3,)
"""Formats of weights that products take as they are stored, beside the plain one."""


@once_for_each
def linear_format(architecture: Architecture) -> Format:
    """Return the one format of all linear maps of layers, whose products take operands of it.

    FP8 is multiplied as it is stored, with a scale for each matrix. Raises WorkloadError for other
    formats, and for layers that have several.
    """
    weights = architecture.weights
    if weights.quantized is None:
        return weights.plain
    found = {
        weights.format_of(f"model.layers.{number}.{matrix.module}")
        for number, layer in enumerate(architecture.layers)
        for matrix in layer.matrices(architecture.hidden)
    }
    if found == {weights.plain}:
        return weights.plain
    if not isinstance(weights.quantized, Format) or weights.quantized not in MULTIPLIED:
        raise unknown(architecture, f"weights in {weights.quantized}")
    if weights.scale_bits:
        raise unknown(architecture, f"weights in {weights.quantized} with scales of blocks")
    if len(found) > 1:
        raise unknown(architecture, f"weights in {weights.quantized} beside {weights.plain}")
    return weights.quantized


def with_linears_in(architecture: Architecture, name: str) -> Architecture:
    """Return the model with all linear maps of layers in a format, with one scale for each.

    The head and the tables stay as they are. Raises WorkloadError for formats that are not known.
    """
    plain = architecture.weights.plain
    allowed = (plain, *MULTIPLIED)
    if name not in allowed:
        hint = did_you_mean(name, allowed)
        raise WorkloadError(f"weights: found '{name}'{hint or ','} allowed: {', '.join(allowed)}")
    weights = architecture.weights.with_linears_in(Format(name))
    return replace(architecture, weights=weights)


def unknown(architecture: Architecture, what: str) -> WorkloadError:
    """Return the refusal of a part whose operations are not known."""
    return WorkloadError(
        f"model {architecture.name}: steps of models with {what} are not known yet"
    )
