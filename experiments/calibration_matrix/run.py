"""What integer linears and approximate attention lose, by the text that is calibrated on and read.

    python run.py OUT [matrix] [parts] [headline] [kernels] [attention]

`matrix`: every linear scheme, for every text that is calibrated on and every text. `parts`: where
the loss comes from, X and W each alone. `headline`: the forms that `accelsim calibrate` makes, over
many tokens. `kernels`: the same by kernels, beside their statements. `attention`: kernels that skip
keys. All but the last two replace operands by what their codes stand for. A run that was stopped
goes on where it stopped.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import forms
import pandas as pd
from forms import Form
from statements import INPUTS, MIXTURE, MODEL, NOTHING, Statements, calibrated

from accelsim import Recipe, evaluate
from accelsim.errors import WorkloadError
from accelsim.quality.summary import Quality, measured
from accelsim.workload.model.texts import KINDS

SOURCES = (MIXTURE, "reference", "code", "novel", "legal", "science")
"""What is calibrated on."""
SHORT, LONG, KERNEL = (1, 384), (4, 1024), (1, 512)
"""Windows of a text, and tokens of a window."""
OF_PARTS = ("legal", "manual", "play", "c")
"""Texts that the mixture has nothing of."""
OF_KERNELS = ("reference", "legal", "science")
ATTENTION = ("sift", "topk", "quest", "sparse", "window")
LINEAR_MACHINE, ATTENTION_MACHINE = "tender-asic", "ascend-910b"
Row = dict[str, Any]


class Point(NamedTuple):
    """A row of a table."""

    form: str
    part: str
    """Inputs that are replaced, or bits of weights."""
    calibrated_on: str
    evaluated_on: str


Points = Iterator[tuple[Point, Callable[[], Quality]]]


def matrix_points(statements: Statements) -> Points:
    """Yield every form with what it is calibrated on, evaluated on every kind."""
    with_sources = [(form, source) for form in forms.MATRIX for source in SOURCES]
    with_sources += [(form, NOTHING) for form in forms.UNCALIBRATED]
    with_sources += [(form, MIXTURE) for form in forms.FOUR_BITS]
    for form, source in with_sources:
        for kind in KINDS:
            yield _point(statements, form, source, kind, SHORT)


def headline_points(statements: Statements) -> Points:
    """Yield the forms that are made by default, over many tokens, and one of them at home."""
    for form in forms.HEADLINE:
        for kind in KINDS:
            yield _point(statements, form, MIXTURE, kind, LONG)
    yield _point(statements, forms.MATRIX[2], "reference", "reference", LONG)


def _point(
    statements: Statements, form: Form, source: str, kind: str, windows: tuple[int, int]
) -> tuple[Point, Callable[[], Quality]]:
    point = Point(form.name, "", source, kind)
    return point, lambda: statements.quality(form, source, [kind], windows)


def parts_points(statements: Statements) -> Points:
    """Yield X alone, by the inputs that are replaced, and W alone; texts as windows of one."""

    def point(
        form: Form, label: str, part: str, inputs: Sequence[str] = INPUTS
    ) -> tuple[Point, Callable[[], Quality]]:
        source = MIXTURE if form.needs else NOTHING
        place = Point(label, part, source, " ".join(OF_PARTS))
        return place, lambda: statements.quality(form, source, OF_PARTS, SHORT, inputs)

    for label, form in forms.EIGHT.items():
        yield point(form, label, "X, 8 bits")
        for name in INPUTS:
            yield point(form, label, f"X, 8 bits: {name}", [name])
    for label, form in forms.FOUR.items():
        yield point(form, label, "X, 4 bits")
    for (label, bits), form in forms.WEIGHTS.items():
        yield point(form, label, f"W, {bits} bits")


def kernel_points(statements: Statements, folder: Path) -> Points:
    """Yield the forms that are made by default by their kernel, and by their statement."""
    for form in (forms.MATRIX[2], *forms.FOUR_BITS):
        for kind in OF_KERNELS:
            place, by_statement = _point(statements, form, MIXTURE, kind, KERNEL)
            yield place._replace(part="statement"), by_statement
            yield place._replace(part="kernel"), _by_kernel(form, kind, folder)


def _by_kernel(form: Form, kind: str, folder: Path) -> Callable[[], Quality]:
    def quality() -> Quality:
        path, tokens = calibrated(form.needs, MIXTURE, folder), KERNEL[1]
        bits = {"activation_bits": form.needs.options.bits, "weight_bits": form.needs.weight_bits}
        recipe = Recipe("tender", calibration=path, **bits)
        return evaluate(MODEL, None, {}, LINEAR_MACHINE, kind, tokens, tokens, linear=recipe)

    return quality


def attention_points() -> Points:
    """Yield kernels that skip keys, by their defaults."""
    for kernel in ATTENTION:
        for kind in KINDS:
            yield Point(kernel, "", NOTHING, kind), _by_attention(kernel, kind)


def _by_attention(kernel: str, kind: str) -> Callable[[], Quality]:
    return lambda: evaluate(MODEL, kernel, {}, ATTENTION_MACHINE, kind, 1024, 1024)


def main(out: Path, steps: Sequence[str]) -> None:
    """Add the rows that the tables do not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        statements = Statements(out)
    except WorkloadError as error:
        print(f"nothing to run: {error}")
        return
    tables = {
        "matrix": lambda: matrix_points(statements),
        "parts": lambda: parts_points(statements),
        "headline": lambda: headline_points(statements),
        "kernels": lambda: kernel_points(statements, out),
        "attention": attention_points,
    }
    for step in steps or tables:
        extend(out / f"{step}.csv", tables[step]())


def extend(table: Path, points: Points) -> None:
    """Add what a table lacks, a row at a time."""
    rows = pd.read_csv(table, keep_default_na=False).to_dict("records") if table.exists() else []
    done = {tuple(row[name] for name in Point._fields) for row in rows}
    for point, quality in points:
        if tuple(point) not in done:
            rows.append(point._asdict() | measured(quality()))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
