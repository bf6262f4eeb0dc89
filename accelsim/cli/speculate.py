"""`accelsim speculate`: a real model whose kernels draft for the same model in FP32."""

from dataclasses import dataclass
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, print_json, results


@dataclass(frozen=True)
class Drafting:
    """How drafts are made."""

    length: Annotated[int, typer.Option(help="Tokens of a draft.")] = 4
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0


def speculate(
    inside: options.InModel,
    writing: options.Written,
    drafting: Drafting,
    *,
    output: options.FormatOption = options.OutputFormat.TABLE,
    notes: options.Notes,
) -> None:
    """Let a real model with kernels in every layer draft for the same model in FP32.

    Writes by speculative sampling at temperature 1, and prints how many tokens of the drafts are
    kept. `accelsim quality` measures the same over whole texts, without writing.
    """
    with compilation_noted():
        from accelsim.quality.passages import Writing
        from accelsim.quality.speculate import speculate as write

        report = write(*inside.arguments, Writing(**vars(writing)), **vars(drafting))
    if output is options.OutputFormat.JSON:
        print_json(report.to_dict())
    else:
        results.print(report)
