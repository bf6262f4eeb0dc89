"""Which kernels can compute the sequences of a problem, and read its K and V."""

from collections.abc import Sequence

from accelsim.errors import WorkloadError
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.workload.problem import AttentionProblem, Problem


def check_sequences(kernel: type[Kernel], problem: Problem) -> None:
    """Refuse sequences of different lengths that a kernel cannot take; raises WorkloadError."""
    if not isinstance(problem, AttentionProblem) or _takes(kernel, problem):
        return
    able = [name for name in kernel_names() if _takes(get_kernel(name), problem)]
    if kernel.takes_sequences:
        found = f"takes one new token of each sequence, but one has {problem.most_queries}"
    else:
        found = "takes sequences of one length, not a list of them"
    raise WorkloadError(
        f"workload {problem.name}: kernel {kernel.name} {found}; "
        f"kernels that can: {', '.join(able)}"
    )


def check_kv(kernel: type[Kernel], problem: Problem) -> None:
    """Refuse K and V that a kernel cannot read; raises WorkloadError.

    Those whose format or width is another than that of Q, or that have scales.
    """
    if not isinstance(problem, AttentionProblem) or _reads(kernel, problem):
        return
    able = [name for name in kernel_names() if _reads(get_kernel(name), problem)]
    found = f"{problem.kv_format} (kv_scales {problem.kv_scales})"
    raise WorkloadError(
        f"workload {problem.name}: kernel {kernel.name} reads K and V of the format and width of Q "
        f"without scales, found K and V in {found} with rows of {problem.widths.key} and "
        f"{problem.widths.value} elements beside Q in {problem.dtype}; "
        f"kernels that read these: {', '.join(able)}"
    )


def check_equal_work(kernels: Sequence[type[Kernel]], problem: Problem) -> None:
    """Refuse to put steps of a generation beside one pass over the same query rows.

    Kernels of decode compute a step for each query row of a head, others all rows at once. Raises
    WorkloadError.
    """
    if not isinstance(problem, AttentionProblem) or problem.most_queries == 1:
        return
    in_steps = list(dict.fromkeys(each.name for each in kernels if each.phase == "decode"))
    at_once = list(dict.fromkeys(each.name for each in kernels if each.phase != "decode"))
    if in_steps and at_once:
        raise WorkloadError(
            f"workload {problem.name}: its {problem.most_queries} query rows are as many steps of "
            f"a generation for {', '.join(in_steps)}, and one pass for {', '.join(at_once)}, which "
            f"is other work; compare either kind by itself, or one query row"
        )


def _reads(kernel: type[Kernel], problem: AttentionProblem) -> bool:
    """Return whether a kernel can read the K and V of a problem."""
    return _takes(kernel, problem) and (kernel.takes_any_kv or problem.has_plain_kv)


def _takes(kernel: type[Kernel], problem: AttentionProblem) -> bool:
    """Return whether a kernel can compute the sequences of a problem."""
    if kernel.problem_kind != problem.kind:
        return False
    if problem.sequences is None:
        return True
    return kernel.takes_sequences and (kernel.phase != "decode" or problem.most_queries == 1)
