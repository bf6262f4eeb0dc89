"""What the source says of a field reaches the JSON Schema, wherever the field was declared."""

from pydantic import Field

from accelsim.config.described import description_of
from accelsim.config.schema import json_schema
from accelsim.config.spec import Bytes, Spec


class _Base(Spec):
    """A spec with fields."""

    rows: int
    """How many rows
    there are."""
    capacity: Bytes
    """How much it holds, in bytes."""
    begin: int = Field(alias="from")
    """Where it begins."""
    told: int = Field(1, description="Told in Python.")
    untold: int = 0


class _Narrow(_Base):
    """One that says a field anew."""

    rows: int = 3


def test_a_field_is_described_by_the_text_below_it():
    assert description_of(_Base, "rows") == "How many rows\nthere are."
    assert description_of(_Base, "told") == "Told in Python."
    assert description_of(_Base, "untold") == ""


def test_an_heir_describes_what_it_declares_and_inherits_the_rest():
    assert description_of(_Narrow, "rows") == ""
    assert description_of(_Narrow, "capacity") == "How much it holds, in bytes."


def test_a_schema_has_the_text_of_the_field_and_not_of_its_type():
    found = json_schema(_Narrow)["properties"]
    assert {name: own.get("description") for name, own in found.items()} == {
        "rows": None,
        "capacity": "How much it holds, in bytes.",
        "from": "Where it begins.",
        "told": "Told in Python.",
        "untold": None,
    }


def test_a_class_without_a_source_has_no_descriptions():
    scope = {"Spec": Spec, "__name__": __name__}
    exec("class Typed(Spec):\n    rows: int = 1\n", scope)
    assert description_of(scope["Typed"], "rows") == ""
