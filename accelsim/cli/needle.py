"""`accelsim needle`: whether a real model with kernels in it finds what lies far back in a text."""

from dataclasses import dataclass
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, print_json, progress, results
from accelsim.quality.search import Search

_DEFAULT = Search()


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(map(str, values))


@dataclass(frozen=True)
class Planting:
    """Where needles are planted: the fields of a `Search`, and the texts."""

    text: options.Texts = None
    length: Annotated[
        list[int] | None,
        typer.Option(
            help="Tokens of a prompt; repeatable.", show_default=_listed(_DEFAULT.lengths)
        ),
    ] = None
    depth: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the text before the key; repeatable.",
            show_default=_listed(_DEFAULT.depths),
        ),
    ] = None
    trials: Annotated[
        int, typer.Option(help="Prompts of every length and depth from every text.")
    ] = _DEFAULT.trials
    seed: Annotated[int, typer.Option(help="Of the keys.")] = _DEFAULT.seed
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Read the text at once; the kernel decodes question and answer one by one.",
        ),
    ] = _DEFAULT.decode
    prefill: options.PrefillKernel = None


def needle(
    kernel: options.AttentionKernels = None,
    linear: options.LinearKernel = None,
    model: options.Model = "smollm2",
    machine: options.Machine = "ascend-910b",
    settings: options.Settings = None,
    *,
    planting: Planting,
    output: options.FormatOption = options.OutputFormat.TABLE,
    notes: options.Notes,
) -> None:
    """Plant pass keys in real text and ask a real model for them, with kernels and in FP32.

    With several kernels each reads the same prompts, which FP32 reads once for all. Prints
    how many keys are found at every length and depth. A kernel that skips keys may keep
    the perplexity and still lose what lies far back.
    """
    chosen = options.parse_settings(settings)
    kernels: list[str | None] = [*kernel] if kernel else [None]
    names = " and ".join(name for name in (*kernels, linear) if name is not None)
    with progress(f"{names} in {model}: layers") as advance, compilation_noted():
        from accelsim.library.kernels import Kernels
        from accelsim.quality.needle import compare_needles
        from accelsim.workload.model.texts import DEFAULT_KIND

        reports = compare_needles(
            model,
            [Kernels(each, linear) for each in kernels],
            chosen,
            machine,
            planting.text or [DEFAULT_KIND],
            _search(planting),
            prefill=planting.prefill,
            progress=advance,
        )
    if output is options.OutputFormat.JSON:
        found = [report.to_dict() for report in reports]
        print_json(found[0] if len(found) == 1 else found)
    else:
        for report in reports:
            results.print(report)


def _search(planting: Planting) -> Search:
    return Search(
        tuple(planting.length or _DEFAULT.lengths),
        tuple(planting.depth or _DEFAULT.depths),
        planting.trials,
        planting.seed,
        planting.decode,
    )
