"""What a user waits for: fresh processes of the command line, warm and with nothing compiled."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Measurement, peak_mb, seconds, seconds_once

MODEL = "llama-3.1-8b"
REPEATS = 7
RUN = ("run", "--machine", "ascend-910b-no-l2", "--workload")
SWEEP = Path(__file__).with_name("sweep.yaml")


def _accelsim(*arguments: str, **variables: str) -> None:
    environment = os.environ | variables
    command = [sys.executable, "-m", "accelsim", "--quiet", *arguments]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def starting() -> list[Measurement]:
    """Fresh processes with everything compiled before."""
    imported = seconds(
        lambda: subprocess.run([sys.executable, "-c", "import accelsim"], check=True), REPEATS
    )
    helped = seconds(lambda: _accelsim("--help"), REPEATS)
    costs = seconds(lambda: _accelsim(*RUN, "attention-2048", "--kernel", "flash"), REPEATS)
    real = seconds(lambda: _accelsim(*RUN, "smollm2-real", "--kernel", "flash"), REPEATS)
    run = "accelsim run, warm"
    return [
        Measurement(name="python -c 'import accelsim'", samples=imported, unit="s", target="< 0.5"),
        Measurement(name="accelsim --help", samples=helped, unit="s", target="< 0.5"),
        Measurement(name=f"{run}, cost only", samples=costs, unit="s", target="< 2.5"),
        Measurement(name=f"{run}, three real heads", samples=real, unit="s", target="< 2.5"),
    ]


def generating() -> list[Measurement]:
    """A generation of a model of 8B parameters, whole processes with everything compiled before.

    Every operation is simulated, or all are remembered.
    """
    return [
        _generation(system, steps, target, is_remembered=is_remembered)
        for system in ("ascend-910b", "h200")
        for steps, target in (("exact", "< 5"), ("interpolated", "< 1"))
        for is_remembered in (False, True)
    ]


def _generation(system: str, steps: str, target: str, *, is_remembered: bool) -> Measurement:
    """Return the CPU time of `accelsim infer`; the first process compiles, chooses, remembers."""
    lengths = ("--prompt", "2048", "--output", "256", "--steps", steps)
    spent = [
        _cpu_s_of_child(
            lambda: _accelsim(
                *("infer", "--model", MODEL, "--system", system, *lengths),
                ACCELSIM_REMEMBER="yes" if is_remembered else "no",
            )
        )
        for _ in range(4)
    ]
    name = f"accelsim infer, {MODEL}, {system}, {steps}{', remembered' * is_remembered}"
    return Measurement(name=name, samples=spent[1:], unit="CPU s", target=target)


def _cpu_s_of_child(call: Callable[[], object]) -> float:
    def spent_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before_s = spent_s()
    call()
    return spent_s() - before_s


def compiling() -> list[Measurement]:
    """Fresh processes with an empty cache, each kernel on its own."""
    runs = {
        "flash, cost only": ("attention-2048", "flash"),
        "flash with numbers": ("smollm2-real", "flash"),
        "dense with numbers": ("smollm2-real", "dense"),
        "gemm, cost only": ("gemm-1024", "gemm"),
    }
    return [_cold(name, *chosen) for name, chosen in runs.items()]


def _cold(name: str, workload: str, kernel: str) -> Measurement:
    with tempfile.TemporaryDirectory() as cache:
        spent = seconds_once(
            lambda: _accelsim(*RUN, workload, "--kernel", kernel, XDG_CACHE_HOME=cache)
        )
    return Measurement(name=f"accelsim run, nothing compiled: {name}", samples=[spent], unit="s")


def sweeping() -> list[Measurement]:
    """A thousand points on one worker and on two."""
    spent = {workers: [_sweep(workers) for _ in range(2)] for workers in (1, 2)}
    ratio = min(spent[1]) / min(spent[2])
    return [
        Measurement(
            name="sweep of 1,000 heads, 1 worker", samples=spent[1], unit="s", target="< 4"
        ),
        Measurement(
            name="sweep of 1,000 heads, 2 workers", samples=spent[2], unit="s", target="< 60"
        ),
        Measurement(name="2 workers against 1", samples=[ratio], unit="x", target=">= 1.7"),
        Measurement(
            name="largest process of the sweep",
            samples=[peak_mb(resource.RUSAGE_CHILDREN)],
            unit="MB",
        ),
    ]


def _sweep(workers: int) -> float:
    with tempfile.TemporaryDirectory() as out:
        return seconds_once(
            lambda: _accelsim("sweep", str(SWEEP), "--out", out, "--workers", str(workers))
        )
