"""`accelsim calibrate`: what a model's linears take in, as groups of channels in a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note, progress


@dataclass(frozen=True)
class Grouping:
    """How the channels are grouped and quantized: the fields of a `GroupOptions`."""

    bits: Annotated[int, typer.Option(help="Bits of a code: 4 or 8.")] = 8
    base: Annotated[
        str,
        typer.Option(help="Where the largest scale comes from: row, found in the run; static."),
    ] = "row"
    groups: Annotated[int, typer.Option(help="Groups of channels.")] = 8
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
    quantile: Annotated[
        float, typer.Option(help="Share of the values of a channel that its range holds.")
    ] = 1.0
    candidates: Annotated[int, typer.Option(help="Bases that a row tries; 4 for 4 bits.")] = 1


@dataclass(frozen=True)
class Reading:
    """What the model reads: the fields of a `Sampling`."""

    windows: Annotated[int, typer.Option(help="Windows to read of every text.")] = 4
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
    text: options.Texts = None,
    reading: Reading,
    notes: options.Notes,
) -> None:
    """Find how the input of every linear of a model is to be quantized, and write it to a file."""
    from accelsim.quantization.calibration import Sampling, calibrate
    from accelsim.quantization.calibration_file import check_calibration_path, save_calibration
    from accelsim.quantization.channel_groups import GroupOptions
    from accelsim.workload.model.texts import CALIBRATED_KINDS

    check_calibration_path(out)
    chosen, sampling = GroupOptions(**vars(grouping)), Sampling(**vars(reading))
    with progress(f"calibrating {model}: layers") as advance:
        calibration = calibrate(model, chosen, sampling, text or CALIBRATED_KINDS, advance)
    save_calibration(calibration, out)
    note(f"wrote {len(calibration.inputs)} inputs of linears to {out}")
