"""The operations of experts, of which a router chooses some for each row.

Softmax over the chosen stands for every way to make weights of scores: others (sigmoids, groups,
biases that move the choice) take as many numbers through the vector unit but for a few ops. Biases
of experts are left out, and so is the clamp of gpt-oss (docs/assumptions.md).
"""

from collections.abc import Callable, Iterator

from accelsim.models.expert_load import Rows
from accelsim.models.feed_forward import ExpertFeedForward
from accelsim.models.operations import dense_feed_forward
from accelsim.models.operations.parts import Setting, Uneven, Work
from accelsim.units import ceil_div
from accelsim.workload.grouped import GroupedGemmProblem
from accelsim.workload.problem import Problem


def operations(part: ExpertFeedForward, at: Setting, load: Rows) -> Iterator[Work]:
    """Yield router, choice, products of experts and their sum; load: rows of each expert.

    The row of shared experts is one more that a token adds up. Devices that share experts have
    their own, and wait for the device with most rows. Where devices have other tokens, rows travel
    to their experts and back; the devices of one copy share out its rows.
    """
    expert, top_k, parallel = part.expert, part.experts_per_token, at.plan.parallel
    if not expert.is_gated or expert.activation != "silu":
        raise at.unknown(f"experts with {expert.activation}")
    if at.linear_fmt != at.fmt:
        raise at.unknown(f"experts in {at.linear_fmt}")
    sent = ceil_div(at.rows, parallel.tensor) if parallel.dispatches else at.rows
    yield at.product("router", part.experts, at.hidden)
    yield at.vector("router", at.rows, part.experts, name="choice of experts", top_k=top_k)
    yield at.vector("permute", at.rows, part.experts, name="places of rows", top_k=top_k)
    ranks = parallel.ranks_of(load)
    if parallel.dispatches:
        yield at.vector(
            "embedding", sent * top_k, at.hidden, name="copy of rows", table_rows=at.rows
        )
        yield at.among_experts("rows to experts", sent * top_k, at.hidden)
    elif not at.plan.gathers_rows:
        yield _each(
            ranks,
            lambda own: at.vector(
                "embedding", sum(own), at.hidden, name="copy of rows", table_rows=at.rows
            ),
        )
    yield _each(ranks, lambda own: _products("experts gate-up", own, 2 * expert.width, at))
    yield _each(
        ranks, lambda own: at.vector("silu_mul", sum(own), expert.width, name="experts activation")
    )
    yield _each(ranks, lambda own: _products("experts down", own, expert.width, at, is_down=True))
    if parallel.dispatches:
        yield at.among_experts("rows from experts", sent * top_k, at.hidden)
    if part.shared:
        yield from dense_feed_forward.operations(part.shared, at)
    of_token = top_k if parallel.dispatches else ceil_div(top_k, parallel.expert)
    added = of_token + (part.shared is not None)
    yield at.vector("combine", sent, at.hidden, name="sum of experts", top_k=added)


def _each(ranks: tuple[Rows, ...], make: Callable[[Rows], Problem]) -> Problem | Uneven:
    """Return what each device has to do for the rows of its experts; one problem if all equal."""
    with_rows = sorted((own for own in ranks if sum(own)), key=lambda own: (sum(own), own))
    problems = tuple(make(own) for own in reversed(with_rows))
    idle = len(ranks) - len(problems)
    return problems[0] if len(set(problems)) == 1 and not idle else Uneven(problems, idle)


def _products(
    name: str, load: Rows, width: int, at: Setting, *, is_down: bool = False
) -> GroupedGemmProblem:
    n, k = (at.hidden, width) if is_down else (width, at.hidden)
    return GroupedGemmProblem(kind="grouped_gemm", name=name, rows=load, n=n, k=k, dtype=at.fmt)
