"""What estimates see of sequences of different lengths: uniform batches that stand for them.

Sequences with one new token meet all their keys once, whatever their tile; all others reuse keys
among their rows. So tiles are chosen for two batches, one after the other: those with one new token
and all others, each with the mean lengths of its sequences. A problem without `sequences` stands
for itself.
"""

from accelsim.kernels import language as al
from accelsim.workload.problem import Lengths


def stand_ins(problem: al.AttentionProblem) -> tuple[al.AttentionProblem, ...]:
    """Return the uniform problems that stand for a problem in estimates."""
    if problem.sequences is None:
        return (problem,)
    single = [each for each in problem.lengths if each.q_len == 1]
    several = [each for each in problem.lengths if each.q_len > 1]
    return tuple(problem.of_equal(*_mean(own)) for own in (single, several) if own)


def largest(problem: al.AttentionProblem) -> al.AttentionProblem:
    """Return one sequence that has the most query rows and the most keys."""
    return problem.of_equal(1, problem.most_queries, problem.most_keys)


def _mean(lengths: list[Lengths]) -> Lengths:
    """Return as many sequences of the mean lengths, rounded up."""
    batch = sum(each.batch for each in lengths)
    rows = sum(each.batch * each.q_len for each in lengths)
    keys = sum(each.batch * each.kv_len for each in lengths)
    return Lengths(batch, al.ceil_div(rows, batch), al.ceil_div(keys, batch))
