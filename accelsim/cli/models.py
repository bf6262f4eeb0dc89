"""`accelsim models`: architectures of language models, shipped or by their config files."""

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from accelsim.cli import options
from accelsim.cli.console import print_json, results
from accelsim.cli.groups import spread
from accelsim.errors import printable
from accelsim.report.quantity import quantity_of

if TYPE_CHECKING:
    from accelsim.models.architecture import Architecture

app = typer.Typer(help="List architectures of language models, or show one of a config.json.")

Source = Annotated[str, typer.Argument(help="A shipped name, a config.json, or a folder with one.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context) -> None:
    """List the architectures that ship with accelsim."""
    if context.invoked_subcommand is not None:
        return
    from accelsim.config.shipped import known_names
    from accelsim.models.loading import load_architecture

    table = Table(
        Column("model", no_wrap=True, overflow="ignore"),
        *("parameters", "active", "layers", "attention", "reach"),
        *("KV a token", "longest context"),
    )
    for name in known_names("model"):
        table.add_row(name, *_cells(load_architecture(name)))
    results.print(table)


def _cells(architecture: "Architecture") -> list[str]:
    from accelsim.models.summary import heads_text, reach_text

    reaches = Counter(reach_text(layer.attention) for layer in architecture.layers)
    bounded = [f"{count} with {text}" for text, count in reaches.items() if text]
    return [
        _billions(architecture.parameters),
        _billions(architecture.active_parameters),
        str(len(architecture.layers)),
        heads_text(architecture.layers[0].attention),
        ", ".join(bounded),
        quantity_of("kv_bytes").show(architecture.kv_bytes_per_token()),
        str(architecture.max_tokens or ""),
    ]


@app.command()
@spread
def show(
    source: Source,
    output: options.FormatOption = options.OutputFormat.TABLE,
    *,
    notes: options.Notes,
) -> None:
    """Show counts and kinds of layers of a model."""
    from accelsim.models.loading import load_architecture
    from accelsim.models.summary import summary

    architecture = load_architecture(source)
    if output is options.OutputFormat.JSON:
        print_json({"model": source, **summary(architecture)})
    else:
        results.print(_facts(source, architecture), _kinds(architecture))


@app.command()
@spread
def layer(
    source: Source,
    new: Annotated[int, typer.Option(min=1, help="Tokens of each sequence to compute.")],
    cached: Annotated[int, typer.Option(min=0, help="Tokens of each sequence before them.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Sequences.")] = 1,
    number: Annotated[int, typer.Option(min=0, help="Which layer of the model.")] = 0,
    *,
    notes: options.Notes,
) -> None:
    """Print a layer of a model as a workload file, for `accelsim run --workload`."""
    from accelsim.config.writing import yaml_text
    from accelsim.models.loading import load_architecture
    from accelsim.models.operations.layer import layer_of
    from accelsim.models.step import Sequences, Step

    architecture = load_architecture(source)
    step = Step((Sequences(new, cached, batch),))
    document = layer_of(architecture, step, number).to_document()
    sys.stdout.write(f"# Layer {number} of {source}: {batch} x {new} new tokens behind {cached}.\n")
    sys.stdout.write(yaml_text(document))


def _facts(source: str, architecture: "Architecture") -> Table:
    weights = architecture.weights
    stored = quantity_of("weight_bytes").show(architecture.weight_bytes)
    lines = {
        "family": architecture.family,
        "parameters": f"{architecture.parameters:,}",
        "active": f"{architecture.active_parameters:,}",
        "weights": f"{stored}, {weights.quantized or weights.plain}",
        "KV a token": f"{architecture.kv_bytes_per_token():,} B in bf16",
        "rows": f"{architecture.hidden} elements",
        "vocabulary": f"{architecture.vocabulary}"
        + (", head tied to the embedding" if architecture.has_tied_head else ""),
    }
    if architecture.max_tokens:
        lines["longest context"] = f"{architecture.max_tokens} tokens"
    if architecture.prediction_parameters:
        lines["of further tokens"] = f"{architecture.prediction_parameters:,}, not counted above"
    if architecture.left_out:
        lines["left out"] = ", ".join(architecture.left_out)
    table = Table(Column(escape(printable(source)), no_wrap=True), "", show_lines=False)
    for name, text in lines.items():
        table.add_row(name, text)
    return table


def _kinds(architecture: "Architecture") -> Table:
    from accelsim.models.summary import attention_text, feed_forward_text, layer_kinds

    table = Table("layers", "attention", "feed-forward", "parameters of one", "active")
    for layer, count in layer_kinds(architecture).items():
        table.add_row(
            str(count),
            attention_text(layer.attention),
            feed_forward_text(layer),
            f"{architecture.parameters_of(layer):,}",
            f"{architecture.active_parameters_of(layer):,}",
        )
    return table


def _billions(count: int) -> str:
    return f"{count / 1e9:.3f} B"
