"""Scores that are capped: c tanh(s / c), from an exponential.

tanh(y) = 1 - 2 / (e^2y + 1), so four vector ops more than a scaling, as on units without a tanh.
Source: Gemma Team, "Gemma 2" (2024), section 2: soft-capping of attention logits.
"""

from accelsim.kernels import language as al


@al.jit_inner
def cap_scores(p, x, softcap):
    """x = c tanh(x / c) in place; nothing where the cap is 0."""
    if softcap > 0:
        al.scale(p, x, x, 2 / softcap)
        al.exp(p, x, x)
        al.add_scalar(p, x, x, 1.0)
        al.divide_scalar(p, x, x, -2 * softcap)
        al.add_scalar(p, x, x, softcap)
