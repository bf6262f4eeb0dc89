"""Every workload that ships as a file: valid, named after its file, with the tensors it names."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from accelsim.workload.problem import Workload
from accelsim.workload.tensors import load_tensors

FOLDER = Path(__file__).parents[3] / "workloads"
FILES = sorted(FOLDER.glob("*.yaml"))
WORKLOAD = TypeAdapter(Workload)


def read(name):
    return WORKLOAD.validate_python(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_valid_and_named_after_its_workload(path):
    assert read(path.stem).name == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_what_it_is(path):
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if "tensors:" in path.read_text()],
    ids=lambda path: path.stem,
)
def test_shipped_tensors_load_and_are_ordinary_numbers(path):
    tensors = load_tensors(read(path.stem), FOLDER)
    for values in (each for each in tensors if isinstance(each, np.ndarray)):
        assert np.isfinite(values).all()
        assert values.std() > 0


def test_the_notice_names_the_files_by_hash():
    notice = (FOLDER / "data" / "NOTICE").read_text()
    for path in (FOLDER / "data").glob("*.npz"):
        assert f"{path.name}" in notice
        assert hashlib.sha256(path.read_bytes()).hexdigest() in notice


def test_the_sink_head_has_the_scores_its_notice_promises():
    q, k, _ = load_tensors(read("smollm2-real-sink"), FOLDER)[:3]
    scores = np.tril(q @ k[0].T)
    assert np.abs(scores).max() == pytest.approx(610, abs=1)
