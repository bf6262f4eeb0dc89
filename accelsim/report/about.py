"""What runs are called, before anything of them is scheduled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class About:
    """What is asked of a run, and of which code: fields of its report that nobody counted."""

    workload: str
    kernel: str
    recipe: str
    library: str
    is_exact: bool
    selection_assumed: bool
    engine: str
    seed: int | None
    settings: Mapping[str, Any]
    parameters: Mapping[str, Any]


def about_all(runs: Sequence[About], workload: str, settings: Mapping[str, Any]) -> About:
    """Return what runs are called together, such as the parts of a layer; there is one at least."""
    return replace(
        runs[0],
        workload=workload,
        kernel=_joined(run.kernel for run in runs),
        recipe=_joined(run.recipe for run in runs),
        library=_joined(run.library for run in runs),
        is_exact=all(run.is_exact for run in runs),
        selection_assumed=any(run.selection_assumed for run in runs),
        seed=None,
        settings=dict(settings),
        parameters={},
    )


def _joined(names: Iterable[str]) -> str:
    """Return the distinct names of the runs."""
    return ", ".join(dict.fromkeys(filter(None, names)))
