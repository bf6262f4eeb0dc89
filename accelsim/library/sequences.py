"""Which kernels can compute the sequences of a problem and read its K and V, in which programs."""

from collections.abc import Iterator, Sequence

from accelsim.errors import WorkloadError
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.workload.problem import AttentionProblem, Problem
from accelsim.workload.tensors import AttentionTensors, Tensors


def check_sequences(kernel: type[Kernel], problem: Problem) -> None:
    """Refuse sequences that a kernel cannot take; raises WorkloadError.

    They differ in length, or have more query rows in a step than it takes.
    """
    if not isinstance(problem, AttentionProblem) or _takes(kernel, problem):
        return
    able = [name for name in kernel_names() if _takes(get_kernel(name), problem)]
    raise WorkloadError(
        f"workload {problem.name}: kernel {kernel.name} {_refusal(kernel, problem)}; "
        f"kernels that can: {', '.join(able)}"
    )


def has_one_program(kernel: type[Kernel], problem: Problem) -> bool:
    """Whether a kernel has one program for a problem, and not one for each of its steps."""
    return not isinstance(problem, AttentionProblem) or problem.steps == 1 or kernel.takes_steps


def check_kv(kernel: type[Kernel], problem: Problem) -> None:
    """Refuse K and V that a kernel cannot read; raises WorkloadError.

    Those whose format or width is another than that of Q, or that have scales.
    """
    if not isinstance(problem, AttentionProblem) or _reads(kernel, problem):
        return
    able = [name for name in kernel_names() if _reads(get_kernel(name), problem)]
    if problem.kv_codes is not None:
        raise WorkloadError(_cannot_read_codes(kernel, problem, able))
    found = f"{problem.kv_format} (kv_scales {problem.kv_scales})"
    raise WorkloadError(
        f"workload {problem.name}: kernel {kernel.name} reads K and V of the format and width of Q "
        f"without scales, found K and V in {found} with rows of {problem.widths.key} and "
        f"{problem.widths.value} elements beside Q in {problem.dtype}; "
        f"kernels that read these: {', '.join(able)}"
    )


def _cannot_read_codes(kernel: type[Kernel], problem: AttentionProblem, able: Sequence[str]) -> str:
    """Return the message for a kernel that finds codes in the place of K and V."""
    who = f"workload {problem.name}: kernel {kernel.name} reads K and V that are no codes, "
    found = f"found kv_codes = {problem.kv_codes}"
    if problem.most_queries != problem.fewest_queries or not able:
        return f"{who}{found}; no kernel reads these with the sequences of this problem"
    return f"{who}{found}; kernels that read these: {', '.join(able)}"


def check_scores(kernel: type[Kernel], problem: Problem) -> None:
    """Refuse a window or a cap of scores that a kernel cannot honour; raises WorkloadError."""
    if not isinstance(problem, AttentionProblem) or _honours(kernel, problem):
        return
    able = [name for name in kernel_names() if _honours(get_kernel(name), problem)]
    found = [] if problem.window is None else [f"window = {problem.window}"]
    found += [] if problem.softcap is None else [f"softcap = {problem.softcap:g}"]
    raise WorkloadError(
        f"workload {problem.name}: kernel {kernel.name} cannot honour {' with '.join(found)} and "
        f"{problem.most_queries} new tokens in a step; kernels that can: {', '.join(able)}"
    )


def check_parts(kernel: type[Kernel], problem: Problem) -> None:
    """Refuse logits of heads, or values in keys, which a kernel does not know.

    Raises WorkloadError.
    """
    if not isinstance(problem, AttentionProblem) or _knows(kernel, problem):
        return
    able = [name for name in kernel_names() if _knows(get_kernel(name), problem)]
    asked = {"sink_logits": problem.sink_logits, "values_in_keys": problem.values_in_keys}
    found = " and ".join(name for name, is_asked in asked.items() if is_asked)
    raise WorkloadError(
        f"workload {problem.name}: kernel {kernel.name} has no {found}; "
        f"kernels that have: {', '.join(able)}"
    )


def _knows(kernel: type[Kernel], problem: AttentionProblem) -> bool:
    """Return whether a kernel knows all parts that the softmax of a problem has."""
    has_logits = not problem.sink_logits or kernel.takes_sink_logits
    has_values = not problem.values_in_keys or kernel.takes_values_in_keys
    return _takes(kernel, problem) and has_logits and has_values


def _honours(kernel: type[Kernel], problem: AttentionProblem) -> bool:
    """Return whether a kernel can honour the window and the cap of scores of a problem."""
    most = {"none": 0, "one": 1, "any": problem.most_queries}[kernel.windows]
    has_window = problem.window is None or problem.most_queries <= most
    has_cap = problem.softcap is None or kernel.caps_scores
    return _takes(kernel, problem) and has_window and has_cap


def one_after_another(
    kernel: type[Kernel], problem: Problem, tensors: Tensors | None
) -> Iterator[tuple[Problem, Tensors | None]]:
    """Yield what a kernel has a program for: a problem with its tensors, or each of its steps."""
    if not isinstance(problem, AttentionProblem) or has_one_program(kernel, problem):
        yield problem, tensors
        return
    for step in range(problem.steps):
        own = tensors.at_step(problem, step) if isinstance(tensors, AttentionTensors) else None
        yield problem.at_step(step), own


def _refusal(kernel: type[Kernel], problem: AttentionProblem) -> str:
    """Return what a kernel takes, and what it found."""
    if problem.sequences is not None and not kernel.takes_sequences:
        return "takes sequences of one length, not a list of them"
    most = problem.most_queries
    if kernel.query_rows == "equal":
        fewest = problem.fewest_queries
        return f"takes as many new tokens of each sequence, but found {fewest} and {most}"
    rows = "q_len: 1" if problem.sequences is None else "new: 1"
    return (
        f"takes one new token of each sequence, but one has {most}; "
        f"tokens that are generated one after the other are steps: {most} with {rows}"
    )


def _reads(kernel: type[Kernel], problem: AttentionProblem) -> bool:
    """Return whether a kernel can read the K and V of a problem."""
    if problem.kv_codes is not None:
        return _takes(kernel, problem) and kernel.takes_coded_kv
    return _takes(kernel, problem) and (kernel.takes_any_kv or problem.has_plain_kv)


def _takes(kernel: type[Kernel], problem: AttentionProblem) -> bool:
    """Return whether a kernel can compute the sequences of a problem."""
    if kernel.problem_kind != problem.kind:
        return False
    if problem.sequences is not None and not kernel.takes_sequences:
        return False
    fewest, most = problem.fewest_queries, problem.most_queries
    return {"any": True, "equal": fewest == most, "one": most == 1}[kernel.query_rows]
