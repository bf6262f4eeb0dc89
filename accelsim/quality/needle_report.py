"""How often pass keys were found: a frozen record that becomes JSON or a rich table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.numerics.formats import Format
from accelsim.quality.estimate import Estimate, mean_over_windows
from accelsim.quality.predictions import Predictions
from accelsim.quality.report import plain_cost
from accelsim.report.report import Report

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Prompts whose pass key was asked for, with kernels and in FP32.

    A key is found if greedy decoding gives all its tokens.
    """

    prompts: int
    fp32_found: int
    found: int
    lost: int
    """Found in FP32 and not with the kernels."""
    gained: int
    """Found with the kernels and not in FP32."""
    change: Estimate
    """Share found with the kernels minus that in FP32; standard errors over pairs of prompts."""
    nll_change: Estimate
    """Mean loss of a key's tokens with the kernels minus that in FP32, nats."""

    @classmethod
    def of(cls, trials: Sequence[Sequence[Predictions]]) -> "Retrieval":
        """Return what the answers of trials say; prompts of one trial share key and pages."""
        ours, fp32 = (_found(trials, name) for name in ("hits", "fp32_hits"))
        changes = [one - other for one, other in zip(ours, fp32, strict=True)]
        all_changes = np.concatenate(changes)
        losses = [np.concatenate([each.changes for each in trial]) for trial in trials]
        return cls(
            prompts=len(all_changes),
            fp32_found=int(np.concatenate(fp32).sum()),
            found=int(np.concatenate(ours).sum()),
            lost=int(np.count_nonzero(all_changes < 0)),
            gained=int(np.count_nonzero(all_changes > 0)),
            change=mean_over_windows(changes),
            nll_change=mean_over_windows(losses),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        counts = ("prompts", "fp32_found", "found", "lost", "gained")
        return {name: getattr(self, name) for name in counts} | {
            "found_share": self.found / self.prompts,
            "fp32_found_share": self.fp32_found / self.prompts,
            "change": self.change.value,
            "change_se": self.change.se,
            "nll_change": self.nll_change.value,
            "nll_change_se": self.nll_change.se,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedleReport:
    """What a model found at every length and depth."""

    model: str
    dtype: Format
    """Number format of the kernels' inputs and outputs in HBM."""
    texts: tuple[tuple[str, str], ...]
    """Kind or file, and hash of the text in UTF-8."""
    search: Mapping[str, Any]
    """Lengths, depths, trials and seed that were asked for."""
    places: tuple[tuple[int, float, Retrieval], ...]
    """Length in tokens, depth, and what was found there."""
    total: Retrieval
    """All places together; trials are what is independent."""
    tokens: int
    """Tokens of all prompts that the kernels computed, or decoded."""
    attention: Report | None
    """Cost of the attention of all prompts, one after the other; mean statistics."""
    linears: Report | None
    """The same of the linears."""
    prefill: Report | None
    """The same of the attention of texts that are read at once."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain nested data for JSON; costs have the keys of a report."""
        return {
            "model": self.model,
            "dtype": str(self.dtype),
            "texts": [{"text": text, "text_sha256": sha256} for text, sha256 in self.texts],
            "search": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in self.search.items()
            },
            "places": [
                {"length": length, "depth": depth} | found.to_dict()
                for length, depth, found in self.places
            ],
            "total": self.total.to_dict(),
            "tokens": self.tokens,
            "attention": plain_cost(self.attention),
            "linears": plain_cost(self.linears),
            "prefill": plain_cost(self.prefill),
        }

    def __rich__(self) -> "Table":
        from accelsim.quality.needle_display import needle_table

        return needle_table(self)


def _found(trials: Sequence[Sequence[Predictions]], name: str) -> list[Any]:
    """Return for every trial whether all tokens of each answer are right, [prompts]."""
    return [
        np.array([getattr(answer, name).all() for answer in trial], np.float64) for trial in trials
    ]
