"""How many tokens of a draft are kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any

from accelsim.errors import FILE_ERRORS, WorkloadError

ASSUMED_RATE = 0.7
"""An assumption, where nothing is known; reports say so."""
_KEYS = {"sampled": "accepted_shares", "greedy": "greedy_accepted_shares"}
_ALLOWED = "a rate of 0 to 1, a list of rates by position, or JSON of `accelsim quality`"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Shares of drafts whose first tokens are kept."""

    shares: tuple[float, ...]
    """Share of the drafts whose first 1, 2, ... tokens are kept."""
    source: str
    """Where they come from."""

    @classmethod
    def of_rates(cls, rates: Sequence[float], source: str) -> "Acceptance":
        """Return shares where the token of each position is kept with a rate if those before are.

        Behind the last position its rate holds on.
        """
        return cls(tuple(accumulate(rates, mul)), source)

    def share(self, length: int) -> float:
        """Return the share of the drafts whose first `length` tokens are kept.

        Behind what is known the last token's rate holds on.
        """
        known = self.shares[: length + 1]
        if length <= len(known):
            return known[length - 1]
        before = known[-2] if len(known) > 1 else 1.0
        rate = known[-1] / before if before else 0.0
        return known[-1] * prod([rate] * (length - len(known)))

    def tokens_per_turn(self, length: int) -> float:
        """Return the mean tokens of a turn: those of the draft that are kept, and one more.

        With independent tokens of rate a it is (1 - a^(length + 1)) / (1 - a) (Leviathan et al.,
        equation 1).
        """
        return 1.0 + sum(self.share(place) for place in range(1, length + 1))


def given_acceptance(asked: float | Sequence[float] | str, sampling: str) -> Acceptance:
    """Return what is asked for: a rate, rates by position, or the JSON of `accelsim quality`.

    Raises WorkloadError.
    """
    if isinstance(asked, str):
        return Acceptance(_shares_of_file(Path(asked), _KEYS[sampling]), asked)
    rates = [asked] if isinstance(asked, int | float) else list(asked)
    if not rates or not all(0 <= each <= 1 for each in rates):
        raise _refused(asked)
    return Acceptance.of_rates(rates, "given")


def _shares_of_file(path: Path, key: str) -> tuple[float, ...]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except (*FILE_ERRORS, ValueError) as error:
        raise WorkloadError(f"acceptance: {path}: cannot be read as JSON ({error})") from None
    shares = data.get(key) if isinstance(data, dict) else None
    if not isinstance(shares, list) or not shares or not all(map(_is_share, shares)):
        raise WorkloadError(
            f"acceptance: {path}: found no shares under '{key}', allowed: what "
            f"`accelsim quality --format json` prints"
        )
    return tuple(map(float, shares))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _refused(found: object) -> WorkloadError:
    return WorkloadError(f"acceptance: found {found}, allowed: {_ALLOWED}")
