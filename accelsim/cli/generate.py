"""`accelsim generate`: what a real model writes with kernels in it, and in FP32."""

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, print_json, results


def generate(
    inside: options.InModel,
    writing: options.Written,
    *,
    output: options.FormatOption = options.OutputFormat.TABLE,
    notes: options.Notes,
) -> None:
    """Let a real model write greedily behind a prompt, with kernels in every layer and in FP32.

    Prints both texts, how many tokens are the same, and what the steps cost.
    """
    with compilation_noted():
        from accelsim.quality.generate import generate as write
        from accelsim.quality.passages import Writing

        report = write(*inside.arguments, Writing(**vars(writing)))
    if output is options.OutputFormat.JSON:
        print_json(report.to_dict())
    else:
        results.print(report)
