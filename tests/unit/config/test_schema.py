"""JSON Schema: what an editor reads, with a description for every field."""

from collections.abc import Iterator
from typing import Any

import pytest

from accelsim.config.schema import file_schema, json_schema
from accelsim.config.spec import Bytes, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec


def undescribed(schema: dict[str, Any]) -> Iterator[str]:
    """Every field of every model of `schema` that says nothing about itself."""
    for name, model in {"(root)": schema, **schema.get("$defs", {})}.items():
        for key, field in model.get("properties", {}).items():
            if not field.get("description"):
                yield f"{name}.{key}"


@pytest.mark.parametrize("model", [MachineSpec, TechnologySpec])
def test_every_field_says_what_it_is(model):
    assert list(undescribed(json_schema(model))) == []


def test_a_field_without_a_description_would_be_noticed():
    class Bare(Spec):
        """A model whose field says nothing."""

        size: int

    assert list(undescribed(json_schema(Bare))) == ["(root).size"]


def test_a_quantity_is_text_with_an_example():
    class Memory(Spec):
        """A model with a quantity."""

        size: Bytes
        """How much it holds, in bytes."""

    schema = json_schema(Memory)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert schema["properties"]["size"] == {
        "title": "Size",
        "type": "string",
        "description": "How much it holds, in bytes.",
        "examples": ["512 KiB"],
    }


def test_a_file_that_extends_another_may_leave_out_every_key():
    schema = file_schema(MachineSpec)
    assert "extends" in schema["properties"]
    assert "required" not in schema
    assert schema["if"] == {"not": {"required": ["extends"]}}
    assert schema["then"]["required"] == json_schema(MachineSpec)["required"]
    parts = {name: each for name, each in schema["$defs"].items() if name.startswith("PartOf")}
    assert parts
    assert len(schema["$defs"]) == 2 * len(parts)
    for name, part in parts.items():
        whole = schema["$defs"][name.removeprefix("PartOf")]
        assert "required" not in part
        assert part.get("properties", {}).keys() == whole.get("properties", {}).keys()
    assert schema["properties"]["load"]["$ref"] == "#/$defs/PartOfDmaSpec"
    assert schema["then"]["properties"]["load"]["$ref"] == "#/$defs/DmaSpec"


def test_a_file_that_cannot_extend_another_has_one_schema():
    assert file_schema(TechnologySpec) == json_schema(TechnologySpec)
