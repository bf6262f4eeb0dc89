"""`accelsim thresholds`: what `sift` keeps of the weights of each head of a model, in a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.calibrate import Reading
from accelsim.cli.console import note, progress


@dataclass(frozen=True)
class Observing:
    """What is observed."""

    tau: Annotated[
        list[float] | None,
        typer.Option(
            help="Quantile of the weights that becomes the threshold; repeatable.",
            show_default="0.75",
        ),
    ] = None
    every: Annotated[
        int, typer.Option(help="Tokens from one observed row of a window to the next.")
    ] = 8


def thresholds(
    out: Annotated[Path, typer.Option("--out", "-o", help="A .safetensors file.")],
    model: options.Model = "smollm2",
    *,
    observing: Observing,
    text: options.Texts = None,
    reading: Reading,
    notes: options.Notes,
) -> None:
    """Learn the thresholds of sift for every head of a model, and write them to a file.

    The recipe sift(thresholds=FILE) reads them and needs no warm-up.
    """
    from accelsim.kernels.attention.decode.thresholds import check_thresholds_path, save_thresholds
    from accelsim.quality.thresholds import DEFAULT_TAUS, learn_thresholds
    from accelsim.quantization.calibration import Sampling
    from accelsim.workload.model.texts import CALIBRATED_KINDS

    check_thresholds_path(out)
    with progress(f"thresholds of {model}: layers") as advance:
        found = learn_thresholds(
            model,
            observing.tau or DEFAULT_TAUS,
            Sampling(**vars(reading)),
            text or CALIBRATED_KINDS,
            observing.every,
            advance,
        )
    save_thresholds(found, out)
    taus, layers, heads, _ = found.sums.shape
    note(f"wrote {taus} laws of each of {heads} heads in {layers} layers to {out}")
