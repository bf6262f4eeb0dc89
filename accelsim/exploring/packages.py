"""Packages that only explorations need: Optuna, SciPy, and PyTorch for a Gaussian process."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from accelsim.errors import ShortageError

_INSTALL = "pip install 'accelsim[explore]'"


def optuna() -> Any:
    """Return Optuna, which says nothing but errors; raises ShortageError where it is missing."""
    module = package("optuna")
    module.logging.set_verbosity(module.logging.ERROR)
    return module


def package(name: str, purpose: str = "an exploration", advice: str = _INSTALL) -> Any:
    """Return a package; raises ShortageError that says how to get it."""
    try:
        return import_module(name)
    except ImportError as error:
        root = name.partition(".")[0]
        raise ShortageError(f"{purpose} needs the package '{root}': {advice}") from error


def distributions(
    names: Iterable[str], shape: Iterable[int], is_ordered: Iterable[bool]
) -> dict[str, Any]:
    """Return what Optuna is to know of each axis: its indices, and whether they have an order."""
    kinds = optuna().distributions
    return {
        name: kinds.IntDistribution(0, count - 1)
        if ordered
        else kinds.CategoricalDistribution(tuple(range(count)))
        for name, count, ordered in zip(names, shape, is_ordered, strict=True)
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna warns of what it calls experimental, such as NSGA-III and multivariate TPE."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        warnings.filterwarnings("ignore", message=".* is experimental")
        yield
