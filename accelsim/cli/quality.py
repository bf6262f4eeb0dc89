"""`accelsim quality`: a real model with kernels in it, its perplexity and the cost of the pass."""

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, detail, print_json, progress, results

if TYPE_CHECKING:
    from accelsim.quality.passages import Reading as Passages


@dataclass(frozen=True)
class Reading:
    """What the model reads."""

    text: options.Texts = None
    tokens: Annotated[
        int, typer.Option(help="Tokens to read of every text; as many are predicted.")
    ] = 1024
    window: Annotated[int, typer.Option(help="Tokens the model sees at once.")] = 1024
    prompt: Annotated[
        int,
        typer.Option(
            help="Tokens at the start of a window that are read at once; the kernel decodes the "
            "others one by one, and only these are predicted."
        ),
    ] = 0
    prefill: options.PrefillKernel = None
    kv: options.KvFormats = None

    @property
    def of_texts(self) -> "Passages":
        """The same as `evaluate` takes it; raises WorkloadError."""
        from accelsim.quality.passages import Reading as Passages
        from accelsim.workload.model.texts import DEFAULT_KIND

        return Passages(
            self.text or [DEFAULT_KIND], self.tokens, self.window, self.prompt, self.prefill
        )


def quality(
    inside: options.InModel,
    reading: Reading,
    *,
    output: options.FormatOption = options.OutputFormat.TABLE,
    notes: options.Notes,
) -> None:
    """Run a real model with its attention, its linears or both computed by kernels.

    Prints the perplexity of one text or of several, and what the same attention and linears
    cost. The only setting of a workload is workload.dtype, the format of inputs, weights and
    outputs in HBM. With formats of the cache each reads the same text, which FP32 reads once.
    """
    started = perf_counter()
    model, kernels, settings, machine = inside.arguments
    formats: list[str | None] = [*reading.kv] if reading.kv else [None]
    names = " and ".join(name for name in (*inside.names, *formats) if name is not None)
    with progress(f"{names} in {model}: layers") as advance, compilation_noted():
        from accelsim.quality.evaluate import evaluate_caches

        reports = evaluate_caches(
            model, formats, kernels, settings, machine, reading.of_texts, progress=advance
        )
    detail(f"read {reading.tokens:,} tokens in {perf_counter() - started:.1f} s")
    if output is options.OutputFormat.JSON:
        found = [report.to_dict() for report in reports]
        print_json(found[0] if len(found) == 1 else found)
    else:
        for report in reports:
            results.print(report)
