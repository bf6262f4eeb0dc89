"""`accelsim infer`: a whole model on a system."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note, print_json, results, working
from accelsim.cli.files import write_csv
from accelsim.cli.plot import INFER_TABLE, OPERATIONS_TABLE

if TYPE_CHECKING:
    from accelsim.inference.report import Inference


class Steps(StrEnum):
    """Which steps of a generation are simulated."""

    EXACT = "exact"
    INTERPOLATED = "interpolated"


@dataclass(frozen=True)
class Request:
    """What is asked of a model on a system."""

    model: Annotated[
        str, typer.Option("--model", help="A shipped name, a config.json, or a folder with one.")
    ]
    system: Annotated[str, typer.Option("--system", help="A shipped name or a file.")]
    prompt: Annotated[int, typer.Option(help="Tokens of each prompt.")]
    output: Annotated[int, typer.Option(help="Tokens that each request asks for.")] = 1
    batch: Annotated[int, typer.Option(help="Requests at a time.")] = 1
    linear: Annotated[
        str | None, typer.Option(help="Kernel of the products; absent: the library's.")
    ] = None
    attention: Annotated[
        str | None,
        typer.Option(help="Kernel of attention where it takes the tokens; absent: the library's."),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="Format of the linear maps of layers: bf16 or fp8_e4m3; absent: the file's."
        ),
    ] = None
    kv: Annotated[
        str | None,
        typer.Option(
            help="Format of the keys and values of earlier tokens, such as fp8_e4m3; absent: that "
            "of activations."
        ),
    ] = None
    experts: Annotated[
        str | None,
        typer.Option(
            help="How tokens choose experts: uniform, zipf, balanced, spread_16, or a file of rows "
            "per expert; zipf(seed=3) draws anew; absent: uniform."
        ),
    ] = None
    plan: Annotated[
        str | None,
        typer.Option(
            help="Devices over which the model is laid out: tp, sp, dp, ep and pp, each with a "
            "number, such as tp=2,ep=4, mb with a number of micro-batches, and overlap; absent: "
            "one."
        ),
    ] = None
    steps: Annotated[
        Steps, typer.Option(help="Simulate every step, or some and draw lines between them.")
    ] = Steps.EXACT
    sample: options.Sample = "never"
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help='A field of the machine of the system or of its host: machine.hbm.bandwidth="2 '
            'TB/s", machine.host.step.value="50 us". Repeatable.',
        ),
    ] = None

    def run(self) -> "Inference":
        """Return what the requests cost; raises an AccelsimError."""
        from accelsim.inference.request import infer
        from accelsim.inference.system import System
        from accelsim.library.kernels import Kernels
        from accelsim.models.model import Model

        settings = options.parse_settings(self.settings, "machine.cores=16")
        return infer(
            Model(self.model, self.weights, self.kv, self.experts),
            System(self.system, self.plan, settings),
            Kernels.or_library(self.attention, self.linear),
            batch=self.batch,
            prompt=self.prompt,
            output=self.output,
            steps=self.steps.value,
            sample=self.sample,
        )


def infer(
    request: Request,
    output_format: options.FormatOption = options.OutputFormat.TABLE,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for tables and figures.", show_default="none"),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write the timeline of a layer of a step to this file, for Perfetto."),
    ] = None,
    speculate: Annotated[
        str | None,
        typer.Option(
            metavar="DRAFT",
            help="A model that drafts, such as draft=smollm2-135m, length=4, acceptance=0.8; "
            "linear=, attention=, weights= and kv= are of the draft, acceptance= also takes the "
            "JSON of `accelsim quality`.",
        ),
    ] = None,
    *,
    notes: options.Notes,
) -> None:
    """Simulate a language model: time to the first token and to each other, joules, memory."""
    folder = options.writable_folder(out) if out else None
    if trace is not None:
        from accelsim.report.trace import check_place

        check_place(trace)
    with working(f"simulating {request.model} on {request.system}"):
        from accelsim.runtime.interruption import interruptible

        found = interruptible(request.run)
        drafted = None
        if speculate is not None:
            from accelsim.inference.speculation import speculate as with_draft

            drafted = interruptible(with_draft, found, speculate)
    if output_format is options.OutputFormat.JSON:
        told = {} if drafted is None else {"speculation": drafted.to_dict()}
        print_json(found.to_dict() | told)
    else:
        results.print(found)
        if drafted is not None:
            results.print(drafted)
    if folder:
        paths = save(found, folder)
        note(f"wrote {INFER_TABLE}, {OPERATIONS_TABLE} and {len(paths)} figures to {folder}")
    if trace is not None:
        with working("simulating the operations of a layer"):
            from accelsim.inference.tracing import layer_timeline
            from accelsim.report.trace import write_trace

            timeline = interruptible(layer_timeline, found)
        write_trace(timeline, trace)
        note(f"wrote {trace}; open it with Perfetto")


def save(found: "Inference", folder: Path) -> list[Path]:
    """Write the tables of an inference and draw them; return the figures."""
    import pandas as pd

    from accelsim.cli.plot import draw_inference

    write_csv(pd.DataFrame([found.to_row()]), folder / INFER_TABLE)
    write_csv(pd.DataFrame(found.operation_rows()), folder / OPERATIONS_TABLE)
    return draw_inference(folder)
