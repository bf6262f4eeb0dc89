"""Kernels run on a problem, and what their programs moved."""

import numpy as np

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.program.ops import Op
from accelsim.program.verifier import verify
from tests.oracle.statements import seen

MACHINE = load_machine("ascend-910b-no-l2")


def run(name, problem, tensors, *, machine=MACHINE, **settings):
    """Return the verified program and the output of a kernel."""
    kernel = get_kernel(name)
    given = {key: value for key, value in settings.items() if value is not None}
    parameters = validate(kernel.parameters, Document({}, {(): ""}).with_overrides(given, ""))
    program, output = kernel.record(problem, machine, parameters, tensors)
    verify(program)
    return program, output


def moved_bytes(program, name):
    """Return the bytes of one tensor that a program loads, gathers and stores."""
    number = [tensor.name for tensor in program.tensors].index(name)
    # Ops of other units carry no tensor and move no bytes.
    return int(program.hbm_bytes[program.tensor_indices == number].sum())


def gathered_keys(problem, program, name):
    """Return the rows of a tensor that each KV head gathers in each step, as a mask."""
    number = [tensor.name for tensor in program.tensors].index(name)
    found = np.zeros((problem.kv_heads, problem.steps, problem.kv_len), bool)
    item = np.repeat(np.arange(program.num_items), np.diff(program.item_start))
    for op in program:
        if op.op == Op.GATHER and op.tensor == number:
            step, head = divmod(int(item[op.index]), problem.kv_heads)
            found[head, step, program.gathered_rows[op.d : op.d + op.b]] = True
    return found


def seen_in_all_steps(problem):
    return sum(seen(problem, step) for step in range(problem.steps))


def row_bytes(problem):
    return problem.head_dim * problem.dtype.bits // 8


def assert_query_and_output_move_once(problem, program):
    size = problem.q_heads * problem.steps * row_bytes(problem)
    assert moved_bytes(program, "q") == moved_bytes(program, "o") == size
