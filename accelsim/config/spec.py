"""The base of every model that a file can describe, and the types of quantities with units."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from accelsim.units import FACTORS, parse_quantity

UNITS_REQUIRED = {"units_required": True}
"""Validation context of everything a user typed: a bare number is not a quantity."""


class Spec(BaseModel):
    """A frozen description with strict keys; every field says its unit and meaning."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


def _quantity(dimension: str, kind: type, minimum: float = 0.0) -> Any:
    def parse(value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            number = parse_quantity(value, dimension)
            return round(number) if kind is int else number
        typed = bool(info.context and info.context.get("units_required"))
        if typed and isinstance(value, int | float) and not isinstance(value, bool):
            return parse_quantity(str(value), dimension)
        return value

    bound = Field(gt=0) if minimum > 0 else Field(ge=0)
    example = {"bytes": "512 KiB", "hertz": "1.8 GHz", "bytes_per_s": "1.6 TB/s"}
    schema = {
        "type": "string",
        "description": f"A number with a unit: {', '.join(FACTORS[dimension])}",
        "examples": [example.get(dimension, f"1 {next(iter(FACTORS[dimension]))}")],
    }
    return Annotated[kind, BeforeValidator(parse), bound, WithJsonSchema(schema)]


Bytes = _quantity("bytes", int, minimum=1)
Hertz = _quantity("hertz", float, minimum=1)
BytesPerSecond = _quantity("bytes_per_s", float, minimum=1)
BytesPerCycle = _quantity("bytes_per_cycle", float, minimum=1)
Seconds = _quantity("seconds", float)
Watts = _quantity("watts", float)
Picojoules = _quantity("picojoules", float)
PicojoulesPerByte = _quantity("picojoules_per_byte", float)
SquareMillimetres = _quantity("square_millimetres", float)
