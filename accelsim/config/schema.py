"""JSON Schema of a spec: for editors, and to say what a file may have where."""

from typing import Any

from pydantic import TypeAdapter

from accelsim.config.described import DescribedSchema
from accelsim.config.spec import EXTENDS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_PART = "PartOf"
"""Before the name of a definition: the same with no key required."""


def json_schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of `model`, a model class or a TypeAdapter of a union of models."""
    adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
    return {"$schema": _DIALECT, **adapter.json_schema(schema_generator=DescribedSchema)}


def file_schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of a file of `model`: one that extends another may leave keys out."""
    whole = json_schema(model)
    if EXTENDS not in whole.get("properties", {}):
        return whole
    part = _without_required(whole)
    complete = {key: whole[key] for key in ("properties", "required")}
    parts = {f"{_PART}{name}": schema for name, schema in part["$defs"].items()}
    condition = {"if": {"not": {"required": [EXTENDS]}}, "then": complete}
    return {**part, **condition, "$defs": {**whole["$defs"], **parts}}


def _without_required(schema: Any) -> Any:
    """Return a copy that requires no key; references lead to such copies of what they name."""
    if isinstance(schema, list):
        return [_without_required(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {
        # Without its required keys, a part can fit several branches of a union.
        "anyOf" if key == "oneOf" else key: _without_required(value)
        for key, value in schema.items()
        if key not in ("required", "discriminator")
    }
    if "$ref" in copy:
        copy["$ref"] = copy["$ref"].replace(_DEFINITIONS, f"{_DEFINITIONS}{_PART}")
    return copy


def schema_at(adapter: TypeAdapter[Any], location: tuple[str | int, ...]) -> dict[str, Any]:
    """Return the JSON Schema of the value at `location`, as pydantic reports locations.

    Empty where the location leads through a union without a discriminator.
    """
    root = adapter.json_schema(schema_generator=DescribedSchema)
    schema = _resolved(root, root)
    for part in location:
        schema = _step(schema, part, root)
    return schema


def _step(schema: dict[str, Any], part: str | int, root: dict[str, Any]) -> dict[str, Any]:
    """Schema one step down: a key, a list position, or the tag of a union branch."""
    branches = _branches(schema, root)
    if part in branches:
        return branches[str(part)]
    if part in schema.get("properties", {}):
        return _resolved(schema["properties"][part], root)
    if isinstance(part, int) and "items" in schema:
        return _resolved(schema["items"], root)
    if isinstance(schema.get("additionalProperties"), dict):
        return _resolved(schema["additionalProperties"], root)
    return {}


def _branches(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Branches of a union by their tag, which is the one value of their `kind` or discriminator."""
    key = schema.get("discriminator", {}).get("propertyName", "kind")
    branches = [_resolved(branch, root) for branch in schema.get("oneOf", [])]
    return {
        branch["properties"][key]["const"]: branch
        for branch in branches
        if "const" in branch.get("properties", {}).get(key, {})
    }


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow references and the optional half of `X | None`."""
    while True:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
            continue
        branches = [branch for branch in schema.get("anyOf", []) if branch.get("type") != "null"]
        if len(branches) != 1:
            return schema
        schema = branches[0]
