"""Specs that a file spells flat: the keys of one of their fields stand beside their own."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, SerializationInfo, create_model
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from accelsim.config.described import description_of
from accelsim.config.spec import Spec


@dataclass(frozen=True)
class KeysBeside:
    """Annotation of a spec whose field `inner` has no key in a file; the keys of `inner` stand in
    the place of it.

    Mistakes and the JSON Schema are of the flat spelling. In Python the spec is taken too.
    """

    inner: str
    """Field with a union of specs, told apart by `kind`."""
    forms: Mapping[str, tuple[type[Spec], str]]
    """Name in the JSON Schema -> a spec of the union, and what the schema says it is here."""

    def __get_pydantic_core_schema__(self, spec: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return how pydantic reads and writes the spec."""
        flat = handler.generate_schema(self._flat(spec))
        read = core_schema.no_info_after_validator_function(self._splitter(spec), flat)
        return core_schema.json_or_python_schema(
            json_schema=read,
            python_schema=core_schema.no_info_wrap_validator_function(_taker(spec), read),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._joined, info_arg=True
            ),
        )

    def _flat(self, spec: type[Spec]) -> Any:
        """Return the union of what a file may say."""
        others: dict[str, Any] = {
            name: (field.annotation, _described(spec, name, field))
            for name, field in spec.model_fields.items()
            if name != self.inner
        }
        branches = [
            create_model(name, __base__=base, __doc__=text, __module__=base.__module__, **others)
            for name, (base, text) in self.forms.items()
        ]
        return Annotated[reduce(or_, branches), Field(discriminator="kind")]

    def _splitter(self, spec: type[Spec]) -> Callable[[Any], Spec]:
        def split(flat: Any) -> Spec:
            values = {name: getattr(flat, name) for name in type(flat).model_fields}
            own: dict[str, Any] = {
                name: values.pop(name) for name in spec.model_fields if name != self.inner
            }
            inner = self.forms[type(flat).__name__][0].model_construct(**values)
            return spec.model_construct(**own | {self.inner: inner})

        return split

    def _joined(self, value: Any, info: SerializationInfo) -> dict[str, Any]:
        plain: dict[str, Any] = value.model_dump(mode=info.mode)
        return {**plain.pop(self.inner), **plain}


def _described(spec: type[Spec], name: str, field: FieldInfo) -> FieldInfo:
    """Return a field that says what it is, for a model without a source."""
    own = copy(field)
    own.description = description_of(spec, name)
    return own


def _taker(spec: type[Spec]) -> Callable[[Any, Callable[[Any], Any]], Any]:
    return lambda value, read: value if isinstance(value, spec) else read(value)
