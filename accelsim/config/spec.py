"""The base of every model that a file can describe, and the types of quantities with units."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from accelsim.errors import printable
from accelsim.units import FACTORS, parse_quantity

UNITS_REQUIRED = {"units_required": True}
"""Validation context of everything a user typed: a bare number is not a quantity."""


class Spec(BaseModel):
    """A frozen description with strict keys; every field says its unit and meaning below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _shown_as_it_is(name: str) -> str:
    if not name.strip() or printable(name) != name or "\n" in name:
        raise ValueError(f"found {name!r}, allowed: a name on one line, without control characters")
    return name


Name = Annotated[str, AfterValidator(_shown_as_it_is), Field(json_schema_extra={"minLength": 1})]
"""What reports, tables and figures show."""

# What compiled code computes with has bounds: 64-bit integers hold the product of any two sizes,
# and no factor makes a time too long for them.
MAX_SIZE = 2**31 - 1
Size = Annotated[int, Field(gt=0, lt=MAX_SIZE + 1)]
SizeOrZero = Annotated[int, Field(ge=0, lt=MAX_SIZE + 1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(ge=1e-6, le=1e6)]
MAX_VALUE = 3.4028234663852886e38
"""Largest finite number of FP32, in which tensors are kept."""
Value = Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE)]
ValueOrZero = Annotated[float, Field(ge=0, le=MAX_VALUE)]
PositiveValue = Annotated[float, Field(gt=0, le=MAX_VALUE)]

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
Hertz = Annotated[float, _parsed("hertz"), Field(ge=1, le=1e15), _described("hertz")]
BytesPerSecond = Annotated[
    float, _parsed("bytes_per_s"), Field(ge=1, le=1e18), _described("bytes_per_s")
]
BytesPerCycle = Annotated[
    float, _parsed("bytes_per_cycle"), Field(ge=1e-6, le=1e12), _described("bytes_per_cycle")
]
Seconds = Annotated[float, _parsed("seconds"), Field(ge=0, le=1e6), _described("seconds")]
Watts = Annotated[float, _parsed("watts"), Field(ge=0, le=1e9), _described("watts")]
Picojoules = Annotated[float, _parsed("picojoules"), Field(ge=0, le=1e12), _described("picojoules")]
PicojoulesPerByte = Annotated[
    float, _parsed("picojoules_per_byte"), Field(ge=0, le=1e12), _described("picojoules_per_byte")
]
SquareMillimetres = Annotated[
    float, _parsed("square_millimetres"), Field(ge=0, le=1e9), _described("square_millimetres")
]
