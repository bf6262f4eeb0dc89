"""A reference of a few rows that say themselves what the model is to predict."""

from pydantic import PositiveFloat

from accelsim.validation.reference import Reference, Row

FILE = "name,said,measured\na,1.1,1\na,3,4\nb,2,2\nb,4,4\n"


class SaidRow(Row):
    """`said` is the prediction, `measured` the value to compare it with."""

    name: str
    said: PositiveFloat
    measured: PositiveFloat


def reference(**changes):
    """Return the reference of `FILE`, with some of its fields changed."""
    fields = {
        "name": "said",
        "summary": "what was said",
        "row": SaidRow,
        "file": "none.csv",
        "quantity": "time_s",
        "kind_of": lambda row: row.name,
        "label_of": lambda row: f"row of {row.name}",
        "value_of": lambda row: row.measured,
        "predict": lambda row: row.said,
    }
    return Reference(**(fields | changes))
