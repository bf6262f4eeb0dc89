"""Samples against whole schedules: `python -m benchmarks.sampling [share ...]`.

For each program and share: how far off the estimates of the cycles and of the bytes over the HBM
are, half of their 95 % intervals, whether these have the truth, and the CPU seconds of the whole
schedule over those of the sample. The shares are what `sample` is given; what is scheduled is more
where that would be too few runs.
"""

import sys
from time import process_time
from typing import NamedTuple

from accelsim.bench import Bench
from accelsim.engine import window
from accelsim.engine.sampling.schedule import SampledSchedule
from accelsim.engine.sampling.schedule import schedule as sampled
from accelsim.engine.schedule import Accounted
from accelsim.loading import load_workload

SHARES = (0.1, 0.2)
_PREFILL = "llama-3-8b/prefill-4096"
_ATTENTION, _DOWN = f"{_PREFILL}/attention-of-prompts", f"{_PREFILL}/down"
_DECODE = "llama-3-8b/decode-4096/attention-of-steps"
_EXPERTS = "mixtral-8x7b/prefill-4096/experts-gate-up"
PROGRAMS = (
    ("ascend-910b-no-l2", _ATTENTION, {"q_len": 8192, "kv_len": 8192}, None),
    ("ascend-910b-no-l2", _ATTENTION, {"q_len": 8192, "kv_len": 8192, "causal": False}, None),
    ("ascend-910b-no-l2", _ATTENTION, {"q_len": 16384, "kv_len": 16384}, None),
    ("ascend-910b-no-l2", _DOWN, {"m": 8192}, None),
    ("ascend-910b-no-l2", _DECODE, {"kv_len": 131072, "batch": 16}, "flash"),
    ("ascend-910b", _ATTENTION, {"q_len": 8192, "kv_len": 8192}, None),
    ("ascend-910b", _ATTENTION, {"q_len": 16384, "kv_len": 16384}, None),
    ("ascend-910b", _DOWN, {"m": 8192}, None),
    ("ascend-910b", _EXPERTS, {}, None),
    ("ascend-910b-banked", _ATTENTION, {"q_len": 8192, "kv_len": 8192}, None),
    ("h200-sxm", _ATTENTION, {"q_len": 8192, "kv_len": 8192}, None),
    ("edge-npu", _ATTENTION, {"q_len": 4096, "kv_len": 4096}, None),
    ("tpu-like-128", _ATTENTION, {"q_len": 4096, "kv_len": 4096}, None),
)


class Held(NamedTuple):
    """A sample held against the whole schedule; shares of the truth."""

    share: float
    """Ops that were scheduled."""
    cycles_off: float
    cycles_margin: float
    bytes_off: float
    bytes_margin: float | None
    """None behind an L2, where the bytes are not estimated."""
    speed: float
    """CPU seconds of the whole schedule over those of the sample."""

    def __str__(self) -> str:
        covers = "yes" if abs(self.cycles_off) <= self.cycles_margin else "no"
        moved = f"HBM bytes {self.bytes_off:+.2%}, not estimated"
        if self.bytes_margin is not None:
            is_met = "yes" if abs(self.bytes_off) <= self.bytes_margin else "no"
            moved = f"HBM bytes {self.bytes_off:+.2%} +- {self.bytes_margin:.2%} {is_met}"
        return (
            f"{self.share:6.1%} | cycles {self.cycles_off:+.3%} +- {self.cycles_margin:.3%} "
            f"{covers} | {moved} | {self.speed:.1f} times as fast"
        )


def held(found: SampledSchedule, whole: Accounted, speed: float) -> Held:
    """Return how far off a sample is."""
    moved, truth = _hbm_bytes(found), _hbm_bytes(whole)
    return Held(
        found.scheduled_ops / found.num_ops,
        found.cycles / whole.cycles - 1,
        found.cycles_margin / whole.cycles,
        moved / truth - 1,
        None if found.hbm_bytes_margin is None else found.hbm_bytes_margin / truth,
        speed,
    )


def _hbm_bytes(run: Accounted) -> int:
    return run.traffic.hbm_read_bytes + run.traffic.hbm_write_bytes


def main(shares: tuple[float, ...]) -> None:
    """Print a line for each program and share, and how often the intervals have the truth."""
    results: list[Held] = []
    for machine, workload, settings, recipe in PROGRAMS:
        problem = load_workload(workload, settings).problem
        recorded = next(iter(Bench.prepare(machine, recipe).record(problem)))
        program, spec = recorded.program, recorded.hardware.machine
        for _ in range(2):  # The first one compiles.
            started = process_time()
            whole = window.schedule(program, spec)
            whole_s = process_time() - started
        print(
            f"{machine} {workload} {settings}: {recorded.recipe}, {whole.num_ops} ops", flush=True
        )
        for share in shares:
            sampled(program, spec, share)
            started = process_time()
            found = sampled(program, spec, share)
            if found is None:
                print("    all would be scheduled")
                continue
            results.append(held(found, whole, whole_s / (process_time() - started)))
            print(f"    {results[-1]}", flush=True)
    cycles = sum(abs(each.cycles_off) <= each.cycles_margin for each in results)
    told = [(each.bytes_off, each.bytes_margin) for each in results]
    bytes_met = [abs(off) <= margin for off, margin in told if margin is not None]
    worst = max(results, key=lambda each: abs(each.cycles_off))
    print(
        f"intervals that have the truth: cycles {cycles} of {len(results)}, "
        f"bytes {sum(bytes_met)} of {len(bytes_met)}"
    )
    print(f"largest error of the cycles: {worst}")


if __name__ == "__main__":
    main(tuple(map(float, sys.argv[1:])) or SHARES)
