"""`accelsim calibrate`: what a model's linears take in, as groups of channels in a file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note, progress


@dataclass(frozen=True)
class Grouping:
    """How the channels are grouped and quantized: the fields of a `GroupOptions`.

    What is not given is as in the best form of so many bits, if rows find their base.
    """

    bits: Annotated[int, typer.Option(help="Bits of a code: 4 or 8.")] = 8
    base: Annotated[
        str,
        typer.Option(help="Where the largest scale comes from: row, found in the run; static."),
    ] = "row"
    groups: Annotated[
        int | None, typer.Option(help="Groups of channels; 1, with 4 bits 4, static 8.")
    ] = None
    chunk_rows: Annotated[int, typer.Option(help="Rows that share bias and groups.")] = 1024
    first_rows: Annotated[
        int, typer.Option(help="Rows at the start of a window that are a chunk of their own.")
    ] = 0
    use_bias: Annotated[
        bool,
        typer.Option("--bias/--no-bias", help="Shift every channel by the middle of its range."),
    ] = False
    rounding: Annotated[
        str, typer.Option(help="How a range becomes a power of two: up, down or best.")
    ] = "up"
    ranges: Annotated[
        str | None,
        typer.Option(help="Range of a channel: largest; typical, with 4 bits."),
    ] = None
    quantile: Annotated[
        float, typer.Option(help="Share of the values of a channel that its largest range holds.")
    ] = 1.0
    candidates: Annotated[
        int | None, typer.Option(help="Bases that a row tries; 1, with 4 bits 6.")
    ] = None
    rotation: Annotated[
        str | None,
        typer.Option(help="What turns the channels first: hadamard; none, with a static base."),
    ] = None
    rotation_block: Annotated[
        int | None, typer.Option(help="Channels of a block of the rotation; up to 128.")
    ] = None


@dataclass(frozen=True)
class Weighting:
    """How weights become codes."""

    weights: Annotated[
        str,
        typer.Option(help="gptq: errors compensate each other; nearest: none in the file."),
    ] = "gptq"
    weight_bits: Annotated[int, typer.Option(help="Bits of a code of a weight: 4 or 8.")] = 8


@dataclass(frozen=True)
class Reading:
    """What the model reads: the fields of a `Sampling`."""

    windows: Annotated[int, typer.Option(help="Windows to read of every text.")] = 2
    window: Annotated[int, typer.Option(help="Tokens in a window.")] = 1024
    first_token: Annotated[
        int,
        typer.Option(help="Where in the text the first window starts; evaluate what is before."),
    ] = 8192


def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", help="A .safetensors file.")],
    model: options.Model = "smollm2",
    *,
    grouping: Grouping,
    weighting: Weighting,
    text: options.Texts = None,
    reading: Reading,
    notes: options.Notes,
) -> None:
    """Find how the linears of a model are to be quantized, and write it to a file."""
    from accelsim.quantization.calibration import Sampling, best_options, calibrate
    from accelsim.quantization.calibration_file import check_calibration_path, save_calibration
    from accelsim.quantization.channel_groups import GroupOptions
    from accelsim.workload.model.texts import CALIBRATED_KINDS

    check_calibration_path(out)
    asked = {name: value for name, value in vars(grouping).items() if value is not None}
    usual = best_options(grouping.bits) if grouping.base == "row" else GroupOptions()
    chosen = replace(usual, **asked)
    bits, sampling = _weight_bits(weighting), Sampling(**vars(reading))
    with progress(f"calibrating {model}: layers") as advance:
        calibration = calibrate(
            model, chosen, sampling, text or CALIBRATED_KINDS, advance, weight_bits=bits
        )
    save_calibration(calibration, out)
    linears = len(calibration.weights)
    coded = f", and {linears} linears in codes of {bits} bits" if linears else ""
    note(f"wrote {len(calibration.inputs)} inputs of linears{coded} to {out}")


def _weight_bits(weighting: Weighting) -> int | None:
    """Return the bits of the weights that the file is to hold, or None for none."""
    if weighting.weights not in ("gptq", "nearest"):
        raise options.OptionError(f"--weights: found '{weighting.weights}', allowed: gptq, nearest")
    return weighting.weight_bits if weighting.weights == "gptq" else None
