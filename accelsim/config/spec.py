"""The base of every model that a file can describe, and the types of quantities with units."""

from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from accelsim.units import FACTORS, parse_quantity

UNITS_REQUIRED = {"units_required": True}
"""Validation context of everything a user typed: a bare number is not a quantity."""


class Spec(BaseModel):
    """A frozen description with strict keys; every field says its unit and meaning."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


EXTENDS = "extends"
"""Key of a file that builds on another one."""


def _may_extend(schema: dict[str, Any]) -> None:
    description = "Name or path of a file like this one, whose keys hold where they are not given."
    own = {EXTENDS: {"title": "Extends", "type": "string", "description": description}}
    schema["properties"] = own | schema["properties"]


class ExtendableSpec(Spec):
    """What a file describes that may extend another; its schema has a key for that."""

    model_config = ConfigDict(json_schema_extra=_may_extend)


def kind_or(default: str) -> Discriminator:
    """Choose the branch of a union by its key `kind`; without one it is `default`.

    The branches carry a Tag that is their kind.
    """

    def kind(value: Any) -> Any:
        return value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", "")

    return Discriminator(kind)


def _parsed(dimension: str, whole: bool = False) -> BeforeValidator:
    def parse(value: object, info: ValidationInfo) -> object:
        typed = bool(info.context and info.context.get("units_required"))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, str) or (typed and is_number):
            number = parse_quantity(str(value), dimension)
            return round(number) if whole else number
        return value

    return BeforeValidator(parse)


def _described(dimension: str) -> WithJsonSchema:
    example = {"bytes": "512 KiB", "hertz": "1.8 GHz", "bytes_per_s": "1.6 TB/s"}
    schema = {
        "type": "string",
        "description": f"A number with a unit: {', '.join(FACTORS[dimension])}",
        "examples": [example.get(dimension, f"1 {next(iter(FACTORS[dimension]))}")],
    }
    return WithJsonSchema(schema)


Bytes = Annotated[int, _parsed("bytes", whole=True), Field(gt=0, le=2**50), _described("bytes")]
Hertz = Annotated[float, _parsed("hertz"), Field(gt=0, le=1e15), _described("hertz")]
BytesPerSecond = Annotated[float, _parsed("bytes_per_s"), Field(gt=0), _described("bytes_per_s")]
BytesPerCycle = Annotated[
    float, _parsed("bytes_per_cycle"), Field(gt=0), _described("bytes_per_cycle")
]
Seconds = Annotated[float, _parsed("seconds"), Field(ge=0, le=1e6), _described("seconds")]
Watts = Annotated[float, _parsed("watts"), Field(ge=0), _described("watts")]
Picojoules = Annotated[float, _parsed("picojoules"), Field(ge=0), _described("picojoules")]
PicojoulesPerByte = Annotated[
    float, _parsed("picojoules_per_byte"), Field(ge=0), _described("picojoules_per_byte")
]
SquareMillimetres = Annotated[
    float, _parsed("square_millimetres"), Field(ge=0), _described("square_millimetres")
]
