"""Whether a better machine is slower with small operations: `python small.py KIND SEED COUNT`.

KIND: gemm, prompt, decode or experts. Operations and machines are drawn by hypothesis.
"""

import sys
from typing import Any

from drawn import BETTER, HEADS, LIMITS, MACHINES, cycles_of
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from accelsim.loading import load_machine
from accelsim.workload.problem import AttentionProblem, GemmProblem, GroupedGemmProblem, Problem

LACKING = {(MACHINES[1], "l2.bandwidth"), (MACHINES[2], "hbm.bandwidth")}
PAIRS = [(name, field) for name in MACHINES for field in BETTER if (name, field) not in LACKING]
SMALL_HEADS = [HEADS[place] for place in (0, 2, 4, 6, 8)]


def _attention(heads: tuple[int, int], **sizes: Any) -> AttentionProblem:
    own = {"q_heads": heads[0], "kv_heads": heads[1], "head_dim": 64, **sizes}
    return AttentionProblem.model_validate({"kind": "attention", "name": "drawn", **own})


PROBLEMS: dict[str, st.SearchStrategy[Problem]] = {
    "gemm": st.builds(
        lambda m, n, k: GemmProblem(kind="gemm", name="drawn", m=m, n=16 * n, k=16 * k),
        st.sampled_from([1, 5, 16, 100]) | st.integers(1, 600),
        st.integers(4, 100),
        st.integers(4, 100),
    ),
    "prompt": st.builds(
        lambda heads, length, is_masked: _attention(
            heads, q_len=length, kv_len=length, causal=is_masked
        ),
        st.sampled_from(SMALL_HEADS),
        st.integers(16, 500),
        st.booleans(),
    ),
    "decode": st.builds(
        lambda heads, length, batch: _attention(heads, q_len=1, kv_len=length, batch=batch),
        st.sampled_from(SMALL_HEADS),
        st.integers(64, 5000),
        st.sampled_from([1, 1, 4]),
    ),
    "experts": st.builds(
        lambda rows, n, k: GroupedGemmProblem(
            kind="grouped_gemm", name="drawn", rows=tuple(rows), n=64 * n, k=64 * k
        ),
        st.lists(st.integers(0, 200), min_size=2, max_size=10).filter(any),
        st.integers(2, 16),
        st.integers(2, 16),
    ),
}


def main(kind: str, number: int, count: int) -> None:
    """Print the pairs beyond the limit, and how many there are."""
    lost: list[float] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(problem=PROBLEMS[kind], pair=st.sampled_from(PAIRS))
    def compare(problem: Problem, pair: tuple[str, str]) -> None:
        name, field = pair
        less, more = (load_machine(name, {field: value}) for value in BETTER[field])
        before, after = (cycles_of(machine, None, problem) for machine in (less, more))
        if before is None or after is None:
            raise ValueError(f"the library has nothing for {problem} on {name}")
        lost.append(after / before - 1)
        if lost[-1] > LIMITS["better"]:
            print(f"{lost[-1]:.1%}", name, field, problem.model_dump(exclude_defaults=True))

    compare()
    over = sum(each > LIMITS["better"] for each in lost)
    print(f"{kind}: {over} of {len(lost)} over {LIMITS['better']:.0%}, most {max(lost):.1%}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
