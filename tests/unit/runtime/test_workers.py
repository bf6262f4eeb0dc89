"""Processes that are lost, seen from the process that started them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOST = (
    "a worker process ended abruptly: for lack of memory, which fewer workers need less of, or "
    "because a script that every worker reads starts them outside `if __name__ == '__main__':`"
)
WORKERS = """\
from accelsim.runtime.workers import local_workers

with local_workers(2) as workers:
    while True:
        workers.executor.submit(int).result()
"""
SWEEP = """\
from accelsim import sweep
from accelsim.sweeps.spec import SweepSpec

spec = SweepSpec(
    name="tiles",
    machine="edge-npu",
    workloads=("attention-uniform-small",),
    kernels=("flash",),
    axes={"tile_q": (16, 32)},
)
sweep(spec, "out", workers=2)
"""
VALIDATE = """\
from accelsim.validation import predictions
from accelsim.validation.outcome import validate
from accelsim.validation.registry import get_reference

predictions._START_S = 0
validate(get_reference("scalesim"), workers=2)
"""
TELL = """
except LostWorkerError as error:
    print(error)
"""


def unguarded(body: str) -> str:
    """A script that its workers read too, and that cannot start workers while they do."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"from accelsim.errors import LostWorkerError\n\ntry:\n{lines}{TELL}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (WORKERS, LOST),
        (SWEEP, f"{LOST}; finished points are kept, run the sweep again"),
        (VALIDATE, LOST),
    ],
    ids=["workers", "sweep", "validate"],
)
def test_a_script_that_its_workers_cannot_read_is_told_why(tmp_path, body, message):
    script = tmp_path / "unguarded.py"
    script.write_text(unguarded(body))
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == message
