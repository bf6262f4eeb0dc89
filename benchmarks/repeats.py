"""How much of a run is the same as a period before, and what that saves in long attention."""

import numpy as np
import numpy.typing as npt

from accelsim.bench import Bench
from accelsim.engine import compiled, looped, window
from accelsim.engine.schedule import Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_machine
from accelsim.program.long import AnyProgram, held
from accelsim.program.ops import FIRST_MEMORY_UNIT, A
from accelsim.workload.problem import AttentionProblem, GemmProblem
from benchmarks.measure import Measurement, cpu_seconds_once

MACHINE = "ascend-910b-no-l2"
WHOLE_CYCLES = {"hbm.bandwidth": "1843.2 GB/s"}
"""A memory that takes whole cycles for 512 bytes of each channel."""
_MIXERS = 0x9E3779B97F4A7C15, 0x100000001B3


def repeats() -> list[Measurement]:
    """Share of the requests to memory that come and end as those of a period before."""
    plain, whole = load_machine(MACHINE), load_machine(MACHINE, WHOLE_CYCLES)
    cube = GemmProblem(kind="gemm", name="cube of 4,096", m=4096, n=4096, k=4096)
    cases = [
        (cube, plain, ""),
        (cube, whole, ", memory of whole cycles"),
        (_attention(8, 8192, causal=False), plain, ""),
        (_attention(8, 8192, causal=True), plain, ""),
        (_attention(4, 32768, causal=False), plain, ""),
        (_attention(8, 32768, causal=True), plain, ""),
    ]
    found = []
    for problem, machine, note in cases:
        kernel = "gemm" if problem.kind == "gemm" else "flash"
        program = held(_recorded(problem, machine, kernel), "this benchmark")
        share = 100 * share_that_repeats(compiled.schedule(program, machine))
        found.append(Measurement(name=problem.name + note, samples=[share], unit="%"))
    return found


def turns() -> list[Measurement]:
    """Long attention with all of its turns, and without those that repeat."""
    machine, problem = load_machine(MACHINE), _attention(8, 65536, causal=True)
    program = _recorded(problem, machine, "flash")
    ways = {"all turns": window.schedule, "turns that repeat left out": looped.schedule}
    found = []
    for name, schedule in ways.items():
        spent = [cpu_seconds_once(lambda: schedule(program, machine)) for _ in range(3)]  # noqa: B023
        found.append(Measurement(name=f"{problem.name}, {name}", samples=spent[1:], unit="CPU s"))
    return found


def _attention(heads: int, rows: int, *, causal: bool) -> AttentionProblem:
    mask = "causal " * causal
    return AttentionProblem(
        kind="attention",
        name=f"{mask}attention, {heads} heads of {rows:,} tokens",
        q_heads=heads,
        kv_heads=max(1, heads // 4),
        head_dim=128,
        q_len=rows,
        kv_len=rows,
        causal=causal,
    )


def _recorded(
    problem: AttentionProblem | GemmProblem, machine: MachineSpec, kernel: str
) -> AnyProgram:
    (recorded,) = Bench.prepare(machine, kernel).record(problem)
    return recorded.program


def share_that_repeats(run: Schedule) -> float:
    """Return the share of the requests in whole periods that are like the period before."""
    signs, length = _signs(run), 4 * run.cores
    windows = np.zeros(max(0, len(signs) - length + 1), np.uint64)
    for place in range(length):
        windows = windows * np.uint64(_MIXERS[1]) + signs[place : len(windows) + place]
    at, repeated, seen = length, 0, dict[int, int]()
    while at <= len(signs):
        key = int(windows[at - length])
        period, alike = at - seen.get(key, at), 0
        if period > 0:
            is_like = signs[at:] == signs[at - period : len(signs) - period]
            alike = int(np.argmin(np.append(is_like, False))) // period * period
        if alike:
            repeated, at, seen = repeated + alike, at + alike, {}
        else:
            seen[key] = at
            at += 1
    return repeated / len(signs)


def _signs(run: Schedule) -> npt.NDArray[np.uint64]:
    """Return a number for each request: what is asked, by whom, when after the last, how long."""
    program = run.program
    requests = np.flatnonzero(program.units >= FIRST_MEMORY_UNIT)
    requests = requests[np.lexsort((run.op_core[requests], run.start[requests]))]
    words = program.ops[requests].copy()
    words[:, A] = 0
    start, end = run.start[requests], run.end[requests]
    columns = [*words.T, run.op_core[requests], np.diff(start, prepend=0), end - start]
    signs = np.zeros(len(requests), np.uint64)
    for column in columns:
        signs = (signs ^ column.astype(np.uint64)) * np.uint64(_MIXERS[0])
        signs ^= signs >> np.uint64(29)
    return signs
