"""`accelsim speculate`: a real model whose kernels draft for the same model in FP32."""

from dataclasses import dataclass
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, print_json, results


@dataclass(frozen=True)
class Drafting:
    """What is read and written, and how."""

    text: Annotated[
        str, typer.Option(help="Kind of text, or file, that the prompt is the start of.")
    ] = "reference"
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512
    tokens: Annotated[int, typer.Option(help="Tokens to write at least.")] = 64
    length: Annotated[int, typer.Option(help="Tokens of a draft.")] = 4
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0


def speculate(
    kernel: options.AttentionKernel = None,
    linear: options.LinearKernel = None,
    model: options.Model = "smollm2",
    machine: options.Machine = "ascend-910b",
    settings: options.Settings = None,
    *,
    drafting: Drafting,
    output: options.FormatOption = options.OutputFormat.TABLE,
    notes: options.Notes,
) -> None:
    """Let a real model with kernels in every layer draft for the same model in FP32.

    Writes by speculative sampling at temperature 1, and prints how many tokens of the drafts are
    kept. `accelsim quality` measures the same over whole texts, without writing.
    """
    with compilation_noted():
        from accelsim.quality.speculate import speculate as write

        report = write(
            model,
            kernel,
            options.parse_settings(settings),
            machine,
            drafting.text,
            drafting.prompt,
            drafting.tokens,
            linear=linear,
            length=drafting.length,
            seed=drafting.seed,
        )
    if output is options.OutputFormat.JSON:
        print_json(report.to_dict())
    else:
        results.print(report)
