"""`accelsim infer`: a whole model on a system."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import print_json, results, working


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
    experts: Annotated[
        str | None,
        typer.Option(
            help="How tokens choose experts: uniform, zipf, balanced, spread_16, or a file of rows "
            "per expert; absent: uniform."
        ),
    ] = None
    steps: Annotated[
        Steps, typer.Option(help="Simulate every step, or some and draw lines between them.")
    ] = Steps.EXACT


def infer(
    request: Request,
    output_format: options.FormatOption = options.OutputFormat.TABLE,
    *,
    notes: options.Notes,
) -> None:
    """Simulate a language model: time to the first token and to each other, joules, memory."""
    with working(f"simulating {request.model} on {request.system}"):
        from accelsim.models.inference import infer as run
        from accelsim.runtime.interruption import interruptible

        asked = vars(request) | {"steps": request.steps.value}
        found = interruptible(run, **asked)
    if output_format is options.OutputFormat.JSON:
        print_json(found.to_dict())
    else:
        results.print(found)
