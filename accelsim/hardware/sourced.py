"""A constant of a technology, with where it comes from."""

from typing import Generic, TypeVar

from pydantic import Field

from accelsim.config.spec import Spec

T = TypeVar("T")


class Sourced(Spec, Generic[T]):
    """A physical constant together with where it comes from."""

    value: T
    """The constant with its unit."""
    source: str = Field(min_length=1)
    """Key of `references` with details, `assumption: ...` or `from memory, unverified: ...`."""
