"""`accelsim model`: real language models and the tensors captured from them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from accelsim.cli import options
from accelsim.cli.console import messages, note, progress, results
from accelsim.cli.groups import spread

app = typer.Typer(no_args_is_help=True, help="Fetch a real model and capture its tensors.")

Name = Annotated[str, typer.Argument(help="Name of the model, such as smollm2.")]
NameOrPath = Annotated[
    str, typer.Argument(help="Name of a fetched model, or a GGUF file or folder.")
]


@app.command("list")
def list_models() -> None:
    """List the models that can be fetched."""
    from accelsim.workload.model.release import RELEASES, is_fetched

    title = Column("model", no_wrap=True, overflow="ignore")
    table = Table(title, "what it is", "parameters", "weights", "license of the weights", "fetched")
    for name, release in RELEASES.items():
        about = (release.title, f"{release.parameters:,}", release.weights, release.license)
        table.add_row(name, *about, "yes" if is_fetched(name) else "no")
    results.print(table)


@app.command()
@spread
def fetch(name: Name, *, notes: options.Notes) -> None:
    """Download a model, verify it and keep it in the user cache."""
    from accelsim.workload.model.release import RELEASES, fetch_model

    with progress(f"fetching {name}", in_bytes=True) as advance:
        path = fetch_model(name, advance)
    note(f"{name} is in {path}; license of the weights: {RELEASES[name].license}")


@app.command()
@spread
def tensors(
    name: NameOrPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="An .npz or .safetensors file.")],
    text: options.Text = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to read.")] = 1024,
    layers: Annotated[str, typer.Option(help="Numbers of layers, separated by commas.")] = "0",
    *,
    notes: options.Notes,
) -> None:
    """Write Q, K, V (after RoPE) and the inputs of the linears of some layers for a text."""
    from accelsim.workload.model.capture import capture_tensors

    numbers = layer_numbers(layers)
    with messages.status(f"running {name} on {tokens} tokens"):
        shapes = capture_tensors(name, text, tokens, numbers, out)
    for array, shape in shapes.items():
        results.print(f"{array}  {' x '.join(map(str, shape))}", highlight=False)
    note(f"wrote {out}")


def layer_numbers(text: str) -> list[int]:
    """Return the numbers in `text`; raises OptionError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise options.OptionError(f"--layers {text}: found no list of numbers; allowed: 0,11")
    return [int(part) for part in parts]
