from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def run_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Returns the `tile_q` of every point that was run, in any process, in order."""
    path = tmp_path / "runs.log"
    path.touch()
    monkeypatch.setenv("RUN_LOG", str(path))
    return lambda: [int(line) for line in path.read_text().split()]
