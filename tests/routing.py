"""Row counts of experts in shipped workloads: a seeded router."""

import numpy as np


def expert_rows(tokens, experts, top_k, seed):
    """Return how many tokens choose each expert.

    A token's scores are normal; those of an expert have a normal offset in common, so that some are
    chosen more often than others, as in trained routers.
    """
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((tokens, experts)) + 0.5 * rng.standard_normal(experts)
    chosen = np.argsort(-scores, axis=1)[:, :top_k]
    return np.bincount(chosen.ravel(), minlength=experts).tolist()
