"""`accelsim calibrate`: what a model's linears take in, as groups of channels in a file."""

from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note, progress


def calibrate(
    out: Annotated[Path, typer.Option("--out", "-o", help="A .safetensors file.")],
    model: Annotated[
        str, typer.Option(help="A model that `accelsim model fetch` has fetched.")
    ] = "smollm2",
    bits: Annotated[int, typer.Option(help="Bits of a code: 4 or 8.")] = 8,
    groups: Annotated[int, typer.Option(help="Groups of channels.")] = 8,
    chunk_rows: Annotated[int, typer.Option(help="Rows that share bias, scale and groups.")] = 1024,
    first_rows: Annotated[
        int, typer.Option(help="Rows at the start of a window that are a chunk of their own.")
    ] = 1,
    bias: Annotated[
        bool, typer.Option(help="Shift every channel by the middle of its range.")
    ] = True,
    rounding: Annotated[
        str, typer.Option(help="How a range becomes a power of two: up, down or best.")
    ] = "best",
    text: Annotated[
        Path | None,
        typer.Option(help="Text to read.", show_default="the Python language reference"),
    ] = None,
    windows: Annotated[int, typer.Option(help="Windows of text to read.")] = 64,
    window: Annotated[int, typer.Option(help="Tokens in a window.")] = 1024,
    first_token: Annotated[
        int,
        typer.Option(help="Where in the text the first window starts; evaluate what is before."),
    ] = 8192,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find how the input of every linear of a model is to be quantized, and write it to a file."""
    from accelsim.quantization.calibration import Sampling, calibrate
    from accelsim.quantization.calibration_file import check_calibration_path, save_calibration
    from accelsim.quantization.channel_groups import GroupOptions

    check_calibration_path(out)
    chosen = GroupOptions(
        bits=bits,
        groups=groups,
        chunk_rows=chunk_rows,
        first_rows=first_rows,
        use_bias=bias,
        rounding=rounding,  # type: ignore[arg-type]  # checked there
    )
    sampling = Sampling(windows=windows, window=window, first_token=first_token)
    with progress(f"calibrating {model}: layers") as advance:
        calibration = calibrate(model, chosen, sampling, text, advance)
    save_calibration(calibration, out)
    note(f"wrote {len(calibration.inputs)} inputs of linears to {out}")
