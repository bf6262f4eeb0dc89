"""Groups of options: one argument of a command, many on the command line."""

from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Annotated

import typer
from typer.testing import CliRunner

from accelsim.cli.groups import spread


@dataclass(frozen=True)
class Size:
    rows: Annotated[int, typer.Option(help="Rows of it.")]
    cols: Annotated[int, typer.Option(help="Columns of it.")] = 3


def app_of(*commands):
    app = typer.Typer()
    for command in commands:
        app.command()(spread(command))
    return app


def told(out: str, *, size: Size, loud: bool = False) -> None:
    """Tell what was given."""
    typer.echo(f"{out} {size} {loud}")


def test_the_fields_of_a_group_are_options_where_the_group_stands():
    parameters = signature(spread(told)).parameters
    assert list(parameters) == ["out", "rows", "cols", "loud"]
    assert parameters["rows"].default is Parameter.empty
    assert parameters["cols"].default == 3


def test_a_command_gets_the_group_that_was_given_field_by_field():
    run = CliRunner().invoke(app_of(told), ["x", "--cols", "5", "--rows", "2", "--loud"])
    assert run.output == f"x {Size(2, 5)} True\n"


def test_a_field_without_a_default_has_to_be_given():
    run = CliRunner().invoke(app_of(told), ["x"])
    assert run.exit_code == 2
    assert "--rows" in run.output


def test_a_command_without_a_group_stays_what_it_is():
    def plain(out: str) -> None:
        typer.echo(out)

    assert CliRunner().invoke(app_of(plain), ["x"]).output == "x\n"
