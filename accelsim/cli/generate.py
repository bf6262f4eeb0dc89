"""`accelsim generate`: what a real model writes with kernels in it, and in FP32."""

from dataclasses import dataclass
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, print_json, results


@dataclass(frozen=True)
class Writing:
    """What is read and written."""

    text: Annotated[
        str, typer.Option(help="Kind of text, or file, that the prompt is the start of.")
    ] = "reference"
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512
    tokens: Annotated[int, typer.Option(help="Tokens to write.")] = 64
    prefill: options.PrefillKernel = None


def generate(
    kernel: options.AttentionKernel = None,
    linear: options.LinearKernel = None,
    model: options.Model = "smollm2",
    machine: options.Machine = "ascend-910b",
    settings: options.Settings = None,
    *,
    writing: Writing,
    output: options.FormatOption = options.OutputFormat.TABLE,
    notes: options.Notes,
) -> None:
    """Let a real model write greedily behind a prompt, with kernels in every layer and in FP32.

    Prints both texts, how many tokens are the same, and what the steps cost.
    """
    with compilation_noted():
        from accelsim.quality.generate import generate as write

        report = write(
            model,
            kernel,
            options.parse_settings(settings),
            machine,
            writing.text,
            writing.prompt,
            writing.tokens,
            linear=linear,
            prefill=writing.prefill,
        )
    if output is options.OutputFormat.JSON:
        print_json(report.to_dict())
    else:
        results.print(report)
