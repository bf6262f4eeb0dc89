"""Packages that only some workloads need."""

from importlib import import_module
from typing import Any

from accelsim.errors import ShortageError


def import_extra(package: str, purpose: str) -> Any:
    """Return a package of the extra `models`; raise ShortageError that says how to get it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise ShortageError(
            f"{purpose} needs the package '{package}': pip install 'accelsim[models]'"
        ) from error
