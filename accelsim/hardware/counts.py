"""Counts and cycles in a file: above any machine, and too few to overflow 64-bit integers."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(gt=0, le=2**16)]
Cycles = Annotated[int, Field(ge=0, le=2**30)]
