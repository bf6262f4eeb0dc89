"""Shipped files: found by name in a checkout and in an installed package, names unique."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import accelsim.config.shipped as shipped_module
from accelsim.config.shipped import known_names, locate

ROOT = Path(shipped_module.__file__).parents[2]


def test_the_shipped_machines_and_technologies_are_known():
    shipped = {"ascend-910b-no-l2", "edge-npu", "tender-asic", "tpu-like-128"}
    assert shipped <= set(known_names("machine"))
    assert {"28nm", "7nm"} <= set(known_names("technology"))
    assert known_names("sweep") == []


@pytest.mark.parametrize("folder", ["configs/machines", "configs/technology", "workloads"])
def test_names_are_unique_in_all_folders_of_a_kind(folder):
    names = [path.stem for path in (ROOT / folder).rglob("*.yaml")]
    assert sorted(names) == sorted(set(names))


def test_a_shipped_name_wins_over_a_file_of_that_name_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edge-npu").write_text("")
    assert locate("edge-npu", "machine") == ROOT / "configs" / "machines" / "edge-npu.yaml"
    assert locate(Path("edge-npu"), "machine") == Path("edge-npu")


def test_an_installed_package_carries_its_files(tmp_path):
    package = tmp_path / "accelsim"
    shutil.copytree(ROOT / "accelsim", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", package / "_data" / "configs")
    nested = package / "_data" / "workloads" / "family"
    nested.mkdir(parents=True)
    (nested / "one.yaml").write_text("kind: gemm\n")
    code = (
        "from accelsim.config.shipped import known_names, locate\n"
        "print(known_names('machine'), locate('one', 'workload'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"{known_names('machine')} {nested}/one.yaml\n"
