"""The parts in one process: recording, both engines, whole simulations."""

from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from accelsim.choosing.asked import Asked
from accelsim.choosing.memory import forget
from accelsim.choosing.trial import settled
from accelsim.engine import compiled, reference
from accelsim.engine.memory.door import new_memory, request
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.decode.split_kv import SplitKv
from accelsim.kernels.attention.dense.dense import Dense
from accelsim.kernels.attention.flash.flash import Flash, FlashParameters
from accelsim.kernels.attention.shifted.pasa import Pasa
from accelsim.kernels.base import Kernel
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.linear.gemm_tiles import GemmParameters, rival_tiles
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.program.ops import Op
from accelsim.program.program import Program
from accelsim.program.transfer import Transfer
from accelsim.simulation import simulate
from accelsim.workload.problem import AttentionProblem, GemmProblem
from accelsim.workload.tensors import load_tensors
from benchmarks.measure import Measurement, cpu_seconds_once, peak_mb, seconds, seconds_once

MACHINE, BANKED = "ascend-910b-no-l2", "ascend-910b-banked"
BURST_BYTES, ROW_BYTES, NUM_BURSTS = 32, 256, 2**18
L2 = {
    "capacity": "192 MiB",
    "line": "512 B",
    "sector": "32 B",
    "ways": 16,
    "slices": 24,
    "bandwidth": "4.8 TB/s",
    "latency": "200 ns",
}
REPEATS = 7


def _heads(heads: int, rows: int) -> AttentionProblem:
    return AttentionProblem(
        kind="attention",
        name=f"{heads} heads of {rows}",
        q_heads=heads,
        kv_heads=heads,
        head_dim=128,
        q_len=rows,
        kv_len=rows,
    )


def _program(machine: MachineSpec, heads: int, rows: int, tile: int) -> Program:
    parameters = FlashParameters(tile_q=tile, tile_k=tile)
    program, _ = Flash.record(_heads(heads, rows), machine, parameters, None)
    return program


def recording() -> list[Measurement]:
    """Ops recorded per second, without numbers."""
    machine = load_machine(MACHINE)
    num_ops = _program(machine, 24, 4096, 128).num_ops
    spent = seconds(lambda: _program(machine, 24, 4096, 128), REPEATS)
    rates = [num_ops / each / 1e6 for each in spent]
    name = f"recording, cost only ({num_ops:,} ops)"
    return [Measurement(name=name, samples=rates, unit="Mops/s", target=">= 5")]


def scheduling() -> list[Measurement]:
    """Ops scheduled per second on 24 cores that share the HBM, by both engines."""
    machine = load_machine(MACHINE)
    large, small = _program(machine, 24, 4096, 128), _program(machine, 24, 512, 64)
    fast = seconds(lambda: compiled.schedule(large, machine), REPEATS)
    fast_small = seconds(lambda: compiled.schedule(small, machine), REPEATS)
    slow_small = seconds(lambda: reference.schedule(small, machine), 3)
    ratios = [each / median(fast_small) for each in slow_small]
    return [
        Measurement(
            name=f"compiled engine, 24 cores ({large.num_ops:,} ops)",
            samples=[large.num_ops / each / 1e6 for each in fast],
            unit="Mops/s",
            target=">= 25",
        ),
        Measurement(
            name=f"SimPy engine, 24 cores ({small.num_ops:,} ops)",
            samples=[small.num_ops / each / 1e6 for each in slow_small],
            unit="Mops/s",
        ),
        Measurement(
            name="compiled engine against SimPy, same program",
            samples=ratios,
            unit="x",
            target=">= 50",
        ),
    ]


def accounting() -> list[Measurement]:
    """What a simulation does besides recording and scheduling."""
    machine, problem = load_machine(MACHINE), _heads(15, 4096)
    workload = LoadedWorkload(problem, Path())
    shares = [_share_of_accounts(machine, workload) for _ in range(REPEATS + 1)][1:]
    num_ops = _program(machine, 15, 4096, 128).num_ops
    name = f"accounts, of a simulation of {num_ops:,} ops"
    return [Measurement(name=name, samples=shares, unit="%", target="< 15")]


def _share_of_accounts(machine: MachineSpec, workload: LoadedWorkload) -> float:
    recipe = "flash(tile_q=128, tile_k=128)"
    whole = seconds_once(lambda: simulate(machine, workload, recipe))
    parts = seconds_once(lambda: compiled.schedule(_program(machine, 15, 4096, 128), machine))
    return 100 * (1 - parts / whole)


def head() -> list[Measurement]:
    """One flash-attention head, cost only."""
    spent = seconds(lambda: simulate(MACHINE, "attention-2048", "flash"), REPEATS)
    return [
        Measurement(
            name="flash head S=2048 d=128, cost only",
            samples=[1e3 * each for each in spent],
            unit="ms",
            target="< 20",
        ),
        Measurement(
            name="peak memory of a process that does this",
            samples=[peak_mb()],
            unit="MB",
            target="< 200",
        ),
    ]


def product() -> list[Measurement]:
    """A matrix product of 1024 x 1024 x 1024, cost only."""
    spent = seconds(lambda: simulate(MACHINE, "gemm-1024", "gemm"), REPEATS)
    samples = [1e3 * each for each in spent]
    name = "GEMM 1024 x 1024 x 1024, cost only"
    return [Measurement(name=name, samples=samples, unit="ms", target="< 20")]


CHOSEN: tuple[tuple[type[Kernel], dict[str, int]], ...] = (
    (Gemm, {"m": 128, "n": 512, "k": 512}),
    (Gemm, {"m": 1024, "n": 1024, "k": 1024}),
    (Flash, {"q_heads": 2, "kv_heads": 2, "head_dim": 64, "q_len": 128}),
    (Flash, {"q_heads": 8, "kv_heads": 8, "head_dim": 64, "q_len": 512}),
    (Flash, {"q_heads": 8, "kv_heads": 2, "head_dim": 128, "q_len": 512}),
    (Flash, {"q_heads": 8, "kv_heads": 2, "head_dim": 128, "q_len": 512, "causal": True}),
    (Flash, {"q_heads": 8, "kv_heads": 2, "head_dim": 128, "q_len": 1024, "causal": True}),
    (Flash, {"q_heads": 32, "kv_heads": 8, "head_dim": 128, "q_len": 4096}),
    (Dense, {"q_heads": 8, "kv_heads": 2, "head_dim": 64, "q_len": 512}),
    (Pasa, {"q_heads": 8, "kv_heads": 2, "head_dim": 128, "q_len": 512}),
    (SplitKv, {"q_heads": 8, "kv_heads": 2, "head_dim": 128, "q_len": 1, "kv_len": 1024}),
    (SplitKv, {"q_heads": 32, "kv_heads": 8, "head_dim": 128, "q_len": 1, "kv_len": 4096}),
)
"""Problems whose tiles are chosen, from small to large."""


def choosing() -> list[Measurement]:
    """What the choice of tiles takes for problems not seen before."""
    return [_share_of_products(), *chain(*(_choice_and_recording(*each) for each in CHOSEN))]


def _choice_and_recording(kernel: type[Kernel], sizes: dict[str, int]) -> list[Measurement]:
    """Return the time of a choice by estimate, of one that is remembered, and of recording.

    The process is warm; what it remembers comes from a file.
    """
    machine, parameters = load_machine("ascend-910b"), kernel.parameters()
    chosen, found, recorded = [], [], []
    for i in range(3 * REPEATS):
        # Under another name nothing is remembered.
        problem = _problem(kernel, f"number {i}", sizes)
        first, again = (
            cpu_seconds_once(lambda: kernel.record(problem, machine, parameters, None))  # noqa: B023
            for _ in range(2)
        )
        # A choice knows no names, but what is laid out does.
        other = Asked(kernel, _problem(kernel, f"again {i}", sizes), machine, parameters)
        known = _seconds_remembered(other)
        chosen.append(1e3 * (first - again))
        found.append(1e3 * (known - again))
        recorded.append(1e3 * again)
    return [
        Measurement(
            name=f"choice of tiles, {kernel.name} of {_shape(problem)}",
            samples=chosen[1:],
            unit="CPU ms",
        ),
        Measurement(name="the same, remembered", samples=found[1:], unit="CPU ms"),
        Measurement(name="recording it, cost only", samples=recorded[1:], unit="CPU ms"),
    ]


def _seconds_remembered(asked: Asked) -> float:
    """Return the time of recording what a file says of a choice."""
    settled(asked)
    forget()
    return cpu_seconds_once(lambda: asked._replace(parameters=settled(asked).parameters).record())


def _problem(
    kernel: type[Kernel], name: str, sizes: dict[str, int]
) -> AttentionProblem | GemmProblem:
    """Return a problem of a kernel; there are as many keys as queries if nothing else is said."""
    if kernel.problem_kind == "gemm":
        return GemmProblem.model_validate({"kind": "gemm", "name": name, **sizes})
    own = {"kind": "attention", "name": name, "kv_len": sizes["q_len"]}
    return AttentionProblem.model_validate(own | sizes)


def _shape(problem: AttentionProblem | GemmProblem) -> str:
    """Return the sizes of a problem as text."""
    if isinstance(problem, GemmProblem):
        return f"{problem.m} x {problem.n} x {problem.k}"
    heads, mask = f"{problem.q_heads}/{problem.kv_heads} heads", "causal " * problem.causal
    return f"{heads}, {mask}{problem.q_len} x {problem.kv_len}"


def _share_of_products() -> Measurement:
    machine = load_machine("ascend-910b")
    simulate(machine, "gemm-1024", "gemm")
    shares = [_share_of_choice(machine, 1024 + i) for i in range(1, 2 * REPEATS)]
    name = "choice of tiles, of a new GEMM near 1024 x 1024 x 1024"
    return Measurement(name=name, samples=shares, unit="%", target="< 10")


def _share_of_choice(machine: MachineSpec, rows: int) -> float:
    problem = GemmProblem(kind="gemm", name="chosen before", m=rows, n=1024, k=1024)
    chosen = seconds_once(lambda: rival_tiles(problem, machine, GemmParameters()))
    # Under another name nothing is remembered.
    spent = seconds_once(lambda: simulate(machine, "gemm-1024", "gemm", {"workload.m": rows}))
    return 100 * chosen / spent


def layer() -> list[Measurement]:
    """A layer of Llama-2-7B, cost only."""
    workload = "llama-2-7b/prefill-4096"
    spent = seconds(lambda: simulate(MACHINE, workload, "flash"), 3)
    name = "Llama-2-7B layer, prefill of 4096, 24 cores"
    return [Measurement(name=name, samples=spent, unit="s", target="< 2")]


def cached_layer() -> list[Measurement]:
    """The same layer with the banks of the HBM and a cache that all cores share."""
    settings = {f"machine.l2.{name}": value for name, value in L2.items()}
    workload = "llama-2-7b/prefill-4096"
    spent = seconds(lambda: simulate(BANKED, workload, "flash", settings), 3)
    name = "the same layer, banked HBM and L2 of 192 MiB"
    return [Measurement(name=name, samples=spent, unit="s", target="< 10")]


def large_product() -> list[Measurement]:
    """A product whose operands are seventeen times the L2: what misses and makes room."""
    problem = _problem(Gemm, "large", {"m": 16384, "n": 16384, "k": 16384})
    workload = LoadedWorkload(problem, Path())
    simulate("h200-sxm", "gemm-1024", "gemm")
    spent = [cpu_seconds_once(lambda: simulate("h200-sxm", workload, "gemm")) for _ in range(3)]
    name = "GEMM 16384 x 16384 x 16384 on h200-sxm, cost only"
    return [Measurement(name=name, samples=spent, unit="CPU s", target="< 10")]


def bursts() -> list[Measurement]:
    """Bursts per second of the banked HBM: near addresses, short rows, single bursts anywhere."""
    machine = load_machine(BANKED, {"l2": None})
    generator = np.random.default_rng(0)
    near = np.arange(NUM_BURSTS)
    rows = generator.permutation(4 * NUM_BURSTS)[: NUM_BURSTS * BURST_BYTES // ROW_BYTES]
    anywhere = generator.integers(machine.hbm.capacity // BURST_BYTES, size=NUM_BURSTS)
    return [
        _serving(machine, "stream", near, BURST_BYTES, ">= 20"),
        _serving(machine, "gathered rows of 256 B", rows, ROW_BYTES, ">= 20"),
        _serving(machine, "single bursts anywhere", anywhere, BURST_BYTES, ">= 20"),
        *(
            _serving(_by_commands(machine), f"{name}, by commands", numbers, BURST_BYTES)
            for name, numbers in (("stream", near), ("single bursts anywhere", anywhere))
        ),
    ]


def _by_commands(machine: MachineSpec) -> MachineSpec:
    hbm = machine.hbm.model_copy(update={"detail": "commands"})
    return machine.model_copy(update={"hbm": hbm})


def _serving(
    machine: MachineSpec,
    name: str,
    numbers: npt.NDArray[np.int64],
    row_bytes: int,
    target: str = "",
) -> Measurement:
    """Serve the rows of these numbers as one gather."""
    op = np.array([[Op.GATHER, 0, 0, 0, numbers.size, row_bytes, 0]])
    program = Program(name, op, np.array([0, 1]), np.array([0]), (), (), numbers)
    gather = Transfer(0, numbers.size, row_bytes, row_bytes, 0, is_write=False)

    memories = [new_memory(machine, program) for _ in range(REPEATS + 1)]
    spent = seconds(lambda: request(memories.pop(), 0, gather), REPEATS)
    count = numbers.size * row_bytes // BURST_BYTES
    return Measurement(
        name=f"banked HBM, {name} ({count:,} bursts)",
        samples=[count / each / 1e6 for each in spent],
        unit="M/s",
        target=target,
    )


def numbers() -> list[Measurement]:
    """One head with its numbers, every step rounded to FP16."""
    problem = AttentionProblem.model_validate(
        {
            **_heads(1, 1024).model_dump(),
            "head_dim": 64,
            "tensors": {"source": "uniform", "amplitude": 1.0, "seed": 0},
        }
    )
    machine, parameters = load_machine(MACHINE), FlashParameters(precision="fp16")
    tensors = load_tensors(problem, Path())
    spent = seconds(lambda: Flash.record(problem, machine, parameters, tensors), REPEATS)
    samples = [1e3 * each for each in spent]
    name = "flash head S=1024 d=64 with numbers, all FP16"
    return [Measurement(name=name, samples=samples, unit="ms")]
