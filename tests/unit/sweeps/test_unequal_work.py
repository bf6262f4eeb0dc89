"""Rows of unequal work in one table: what differs is told, and they do not compete."""

import pandas as pd
import pytest
import yaml

from accelsim.cli.plot import front_of
from accelsim.plotting.table import problems, series_names
from accelsim.sweeps.run import sweep

TOKENS = {
    "kind": "attention",
    "q_heads": 2,
    "kv_heads": 1,
    "head_dim": 16,
    "kv_len": 64,
}
DRAFT, GENERATION = {"q_len": 4, "steps": 1}, {"q_len": 1, "steps": 4}


@pytest.fixture
def table(tmp_path):
    """Return the table of a sweep over kernels and the works that it is given."""

    def swept(names=("tokens", "tokens"), **keys):
        files = []
        for work, name in zip((DRAFT, GENERATION), names, strict=True):
            files.append(f"{len(files)}.yaml")
            (tmp_path / files[-1]).write_text(yaml.safe_dump({**TOKENS, **work, "name": name}))
        spec = {
            "name": "s",
            "machine": "edge-npu",
            "workloads": keys.pop("workloads", files),
            "kernels": ["flash", "split_kv"],
            **keys,
        }
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(spec))
        sweep(tmp_path / "s.yaml", tmp_path / "out", workers=1)
        return pd.read_csv(tmp_path / "out" / "results.csv")

    return swept


def works_of(frame):
    return {tuple(row) for row in frame[["workload.q_len", "workload.steps"]].to_numpy().tolist()}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {
            "workloads": ["0.yaml"],
            "zip": [{"workload.q_len": [4, 1], "workload.steps": [1, 4]}],
        },
    ],
    ids=["files-of-one-name", "axes"],
)
def test_a_table_says_which_work_a_row_did(table, keys):
    frame = table(**keys)
    assert works_of(frame) == {(4, 1), (1, 4)}
    assert frame.groupby(problems(frame)).size().tolist() == [2, 2]
    told = frame.groupby("workload_digest")[["workload.q_len", "workload.steps"]].nunique()
    assert (told == 1).all(axis=None)
    assert all("q len" in name and "steps" in name for name in series_names(frame))


def test_works_of_different_names_are_told_by_them(table):
    frame = table(("draft", "generation"))
    assert frame.groupby("workload")["workload_digest"].nunique().to_dict() == {
        "draft": 1,
        "generation": 1,
    }
    assert {name.split(" · ")[1] for name in series_names(frame)} == {"draft", "generation"}


@pytest.mark.parametrize("names", [("tokens", "tokens"), ("draft", "generation")])
def test_a_draft_beats_no_generation(table, names):
    """A draft loads the keys once, and a generation once for each token."""
    frame = table(names)
    columns = ("time_s", "hbm_read_bytes", ())
    assert frame[front_of(frame, *columns)]["workload_digest"].nunique() == 2
    # As if all did one work, the generation would be on no front.
    as_one = frame.assign(workload_digest="one")
    assert frame[front_of(as_one, *columns)]["workload_digest"].nunique() == 1
