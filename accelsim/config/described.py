"""What the source says of the fields of a spec: the text below each, read when it is asked for.

Pydantic would read the source of every spec as it is defined: a fifth of the time to start.
"""

import ast
import inspect
from collections.abc import Mapping
from itertools import pairwise
from textwrap import dedent
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from accelsim.runtime.kept import once_for_each


def description_of(spec: type[BaseModel], name: str) -> str:
    """Return what is said of the field called `name` where it is declared; empty for nothing."""
    own = spec.model_fields[name].description
    if own is not None:
        return own
    declared = (each for each in spec.__mro__ if name in vars(each).get("__annotations__", {}))
    return _texts_of(next(declared)).get(name, "")


class DescribedSchema(GenerateJsonSchema):
    """Makes a JSON Schema in which every field has its description."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the schema of one model."""
        found, spec = super().model_schema(schema), schema["cls"]
        names = {field.alias or name: name for name, field in spec.model_fields.items()}
        for key, field in found.get("properties", {}).items():
            text = description_of(spec, names[key]) if key in names else ""
            if text:
                field["description"] = text
        return found


@once_for_each
def _texts_of(declaring: type) -> Mapping[str, str]:
    """Return the texts in the source of a class by field; none where there is no source."""
    try:
        source = inspect.getsource(declaring)
    except (OSError, TypeError):
        return {}
    (tree,) = ast.parse(dedent(source)).body
    pairs = pairwise(getattr(tree, "body", []))
    return {_name_of(field): _text_of(below) for field, below in pairs if _text_of(below)}


def _name_of(statement: Any) -> str:
    is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    return statement.target.id if is_field else ""


def _text_of(statement: Any) -> str:
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    text = statement.value.value if is_constant else None
    return inspect.cleandoc(text) if isinstance(text, str) else ""
