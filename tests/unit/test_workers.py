"""Processes that are lost, seen from the process that started them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNGUARDED = """\
from accelsim.errors import WorkersError
from accelsim.workers import local_workers

try:
    with local_workers(2) as workers:
        while True:
            workers.executor.submit(int).result()
except WorkersError as error:
    print(error)
"""
"""Every worker that starts reads this script, and cannot start workers of its own while it does."""


def test_a_script_that_its_workers_cannot_read_is_told_why(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (
        "a worker process ended abruptly: for lack of memory, which fewer workers need less of, or "
        "because a script that every worker reads starts them outside `if __name__ == '__main__':`"
    )
