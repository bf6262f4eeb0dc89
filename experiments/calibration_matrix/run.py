"""What integer linears and approximate attention lose, by the text that is calibrated on and read.

    python run.py OUT [kernels] [once] [crossed] [attention] [weights]

`kernels`: linears with 4 bits, in the form that `accelsim calibrate` makes by default, by their
kernel and by their statement. `once`: every linear scheme by its statement, which replaces the
operands of all linears by what their codes stand for, calibrated on the mixture or on nothing.
`crossed`: those that are calibrated, for every text that is calibrated on. `attention`: kernels
that skip keys. `weights`: forms whose weights are of the calibration too, which takes two minutes a
text, for one text. A run that was stopped goes on where it stopped.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import forms
import pandas as pd
from forms import Form
from statements import MIXTURE, MODEL, NOTHING, Statements, calibration_of

from accelsim import Kernels, Reading, Recipe, evaluate
from accelsim.errors import WorkloadError
from accelsim.quality.summary import Quality, measured
from accelsim.quantization.calibration_file import save_calibration
from accelsim.workload.model.texts import KINDS

OF_MATRIX = ("legal", "code", "novel", "reference", "manual")
"""Kinds that are calibrated on and evaluated: all eight would take three times as long."""
OF_WEIGHTS = OF_MATRIX[0]
"""Kind that forms are calibrated on whose weights are of the calibration."""
MATRIX_TOKENS, KERNEL_TOKENS, ATTENTION_TOKENS = 256, 384, 1024
"""Tokens of a text that are evaluated, the first ones, in one window."""
ATTENTION = ("sift", "topk", "quest", "window")
LINEAR_MACHINE, ATTENTION_MACHINE = "tender-asic", "ascend-910b-no-l2"


class Point(NamedTuple):
    """A row of a table."""

    form: str
    calibrated_on: str
    evaluated_on: str
    by: str
    """Statement or kernel."""


Points = Iterator[tuple[Point, Callable[[], Quality]]]


def once_points(statements: Statements) -> Points:
    """Yield every form calibrated on the mixture or on nothing, evaluated on every kind."""
    for form in (*forms.CROSSED, *forms.COMPENSATED, *forms.FOUR_BITS, *forms.UNCALIBRATED):
        source = MIXTURE if form.groups else NOTHING
        for kind in OF_MATRIX:
            yield _by_statement(statements, form, source, kind, MATRIX_TOKENS)


def crossed_points(statements: Statements) -> Points:
    """Yield every form with every kind that it is calibrated on, evaluated on every kind."""
    for source in OF_MATRIX:
        for form in forms.CROSSED:
            for kind in OF_MATRIX:
                yield _by_statement(statements, form, source, kind, MATRIX_TOKENS)


def weight_points(statements: Statements) -> Points:
    """Yield forms whose weights are of the calibration, calibrated on one kind."""
    for form in (*forms.COMPENSATED, *forms.FOUR_BITS):
        for kind in OF_MATRIX:
            yield _by_statement(statements, form, OF_WEIGHTS, kind, MATRIX_TOKENS)


def kernel_points(statements: Statements, folder: Path) -> Points:
    """Yield the forms that are made by default, on every kind."""
    for form in forms.BY_KERNELS:
        for kind in KINDS:
            yield _by_kernel(form, kind, folder)
        for kind in KINDS:
            yield _by_statement(statements, form, MIXTURE, kind, KERNEL_TOKENS)


def attention_points() -> Points:
    """Yield kernels that skip keys, by their defaults."""
    for kernel in ATTENTION:
        for kind in OF_MATRIX:
            yield Point(kernel, NOTHING, kind, "kernel"), _attention(kernel, kind)


def _by_statement(
    statements: Statements, form: Form, source: str, kind: str, tokens: int
) -> tuple[Point, Callable[[], Quality]]:
    point = Point(form.name, source, kind, "statement")
    return point, lambda: statements.quality(form, source, kind, tokens)


def _by_kernel(form: Form, kind: str, folder: Path) -> tuple[Point, Callable[[], Quality]]:
    def quality() -> Quality:
        made = calibration_of(form, MIXTURE, folder)
        path = folder / f"{form.name.replace(', ', '-')}.safetensors"
        if not path.exists():
            save_calibration(made, path)
        bits = (made.provenance.options.bits, made.provenance.weight_bits)
        recipe = Recipe("tender", calibration=path, activation_bits=bits[0], weight_bits=bits[1])
        reading = Reading(kind, KERNEL_TOKENS, KERNEL_TOKENS)
        return evaluate(MODEL, Kernels(linear=recipe), {}, LINEAR_MACHINE, reading)

    return Point(form.name, MIXTURE, kind, "kernel"), quality


def _attention(kernel: str, kind: str) -> Callable[[], Quality]:
    reading = Reading(kind, ATTENTION_TOKENS, ATTENTION_TOKENS)
    return lambda: evaluate(MODEL, kernel, {}, ATTENTION_MACHINE, reading)


def main(out: Path, steps: Sequence[str]) -> None:
    """Add the rows that the tables do not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        statements = Statements(out)
    except WorkloadError as error:
        print(f"nothing to run: {error}")
        return
    tables: dict[str, Callable[[], Points]] = {
        "kernels": lambda: kernel_points(statements, out),
        "once": lambda: once_points(statements),
        "crossed": lambda: crossed_points(statements),
        "attention": attention_points,
        "weights": lambda: weight_points(statements),
    }
    for step in steps or tables:
        extend(out / f"{step}.csv", tables[step]())


def extend(table: Path, points: Points) -> None:
    """Add what a table lacks, a row at a time."""
    rows: list[dict[str, Any]] = []
    if table.exists():
        rows = pd.read_csv(table, keep_default_na=False).to_dict("records")
    done = {tuple(row[name] for name in Point._fields) for row in rows}
    for point, quality in points:
        if tuple(point) not in done:
            rows.append(point._asdict() | measured(quality()))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
