"""Speculative sampling: tokens of a draft, kept or replaced so that the target's law is kept.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192,
algorithm 1: a token x drawn from q is kept with probability min(1, p(x) / q(x)). The first one that
is not is replaced by a draw from the positive part of p - q, and the tokens behind it are dropped;
behind a draft that is kept whole comes a draw from p. What comes out is distributed as p.
"""

from collections.abc import Callable, Sequence

import numpy as np

from accelsim.quality.estimate import Values

Reader = Callable[[Sequence[int], int], Values]
"""Takes tokens and a count, gives the distributions behind so many last ones, [count, tokens]."""


def checked(drafted: Sequence[int], q: Values, p: Values, rng: np.random.Generator) -> list[int]:
    """Return what is kept of a draft, and the token that the target puts behind it.

    q [drafted, vocabulary] is what the tokens were drawn from; p [drafted + 1, vocabulary] are the
    target's distributions at the same places and behind the last.
    """
    for place, token in enumerate(drafted):
        if rng.random() * q[place, token] >= p[place, token]:
            rest = np.maximum(p[place] - q[place], 0.0)
            return [*drafted[:place], drawn(rest, rng)]
    return [*drafted, drawn(p[len(drafted)], rng)]


def drawn(distribution: Values, rng: np.random.Generator) -> int:
    """Return a token drawn from a distribution [vocabulary], which need not sum to 1."""
    upto = np.cumsum(distribution)
    return int(np.searchsorted(upto, rng.random() * upto[-1], "right"))


def turn(
    draft: Reader, target: Reader, ids: Sequence[int], length: int, rng: np.random.Generator
) -> list[int]:
    """Return the tokens that one turn of drafting and checking writes behind `ids`, 1 or more."""
    known, laws = list(ids), []
    for _ in range(length):
        (law,) = draft(known, 1)
        laws.append(law)
        known.append(drawn(law, rng))
    return checked(known[len(ids) :], np.array(laws), target(known, length + 1), rng)
