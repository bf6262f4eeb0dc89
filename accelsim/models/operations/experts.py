"""The operations of experts, of which a router chooses some for each row.

Softmax over the chosen stands for every way to make weights of scores: others (sigmoids, groups,
biases that move the choice) take as many numbers through the vector unit but for a few ops. Biases
of experts are left out, and so is the clamp of gpt-oss (docs/assumptions.md).
"""

from collections.abc import Iterator

from accelsim.models.expert_load import Rows
from accelsim.models.feed_forward import ExpertFeedForward
from accelsim.models.operations import dense_feed_forward
from accelsim.models.operations.parts import Setting
from accelsim.workload.grouped import GroupedGemmProblem
from accelsim.workload.problem import Problem


def operations(part: ExpertFeedForward, at: Setting, load: Rows) -> Iterator[Problem]:
    """Yield router, choice, products of experts and their sum; load: rows of each expert.

    The row of shared experts is one more that a token adds up.
    """
    expert, top_k = part.expert, part.experts_per_token
    if not expert.is_gated or expert.activation != "silu":
        raise at.unknown(f"experts with {expert.activation}")
    if at.linear_fmt != at.fmt:
        raise at.unknown(f"experts in {at.linear_fmt}")
    chosen = at.rows * top_k
    yield at.product("router", part.experts, at.hidden)
    yield at.vector("router", at.rows, part.experts, name="choice of experts", top_k=top_k)
    yield at.vector("permute", at.rows, part.experts, name="places of rows", top_k=top_k)
    if not at.plan.gathers_rows:
        yield at.vector("embedding", chosen, at.hidden, name="copy of rows", table_rows=at.rows)
    yield _products("experts gate-up", load, 2 * expert.width, at.hidden, at)
    yield at.vector("silu_mul", chosen, expert.width, name="experts activation")
    yield _products("experts down", load, at.hidden, expert.width, at)
    if part.shared:
        yield from dense_feed_forward.operations(part.shared, at)
    added = top_k + (part.shared is not None)
    yield at.vector("combine", at.rows, at.hidden, name="sum of experts", top_k=added)


def _products(name: str, load: Rows, n: int, k: int, at: Setting) -> GroupedGemmProblem:
    return GroupedGemmProblem(kind="grouped_gemm", name=name, rows=load, n=n, k=k, dtype=at.fmt)
