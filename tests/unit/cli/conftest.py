"""The command line on stand-ins for the simulator, so that only the commands are tested."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.errors import unknown_name
from accelsim.library import recipe as recipes
from accelsim.report.timeline import Timeline

CYCLES = {"dense": 4000, "flash": 2000}
PICKED = "dense"
"""What the library of the stand-in picks."""


class Parameters(BaseModel):
    """What a kernel can be told."""

    tile_q: int | None = Field(default=None, description="Rows [q_len]\nof a tile.")
    precision: str = Field(default="fp32", description="Format of the vector path.")


@dataclass
class Report:
    """As much of a report as the commands use."""

    machine: str
    workload: str
    recipe: str
    timeline: Timeline | None

    @property
    def kernel(self):
        return self.recipe.partition("(")[0]

    def to_dict(self):
        return {
            "kernel": self.kernel,
            "recipe": self.recipe,
            "cycles": CYCLES[self.kernel],
            "accuracy": None,
            "energy_by_component_j": {"hbm": 1e-3, "cube": float("nan")},
        }

    def to_row(self):
        cycles = CYCLES[self.kernel]
        return {
            "machine": self.machine,
            "workload": self.workload,
            "kernel": self.kernel,
            "recipe": self.recipe,
            "cycles": cycles,
            "time_s": cycles / 1e9,
            "macs": 1e6,
            "hbm_read_bytes": 4e6,
            "hbm_write_bytes": 1e6,
            "hbm_bytes_by_tensor.k": 5e6,
            "energy_j": 1e-3,
            "energy_by_component_j.hbm": 1e-3,
            "peak_macs_per_s": 1e12,
            "peak_hbm_bytes_per_s": 1e12,
        }

    def __rich__(self):
        return f"{self.recipe} on {self.machine}: {CYCLES[self.kernel]} cycles"


TIMELINE = Timeline(
    *np.array([[0, 0, 0, 0, 20, 640], [0, 1, 1, 20, 60, 0]]).T,
    ["load k", "matmul"],
    ["load", "cube"],
    1e9,
    *np.array([[0, 0, 128], [0, 60, 0]]).T,
    moved_bytes=np.array([640, 0]),
    cycles=60,
    hbm_bytes_at_end=0,
    peak_hbm_bytes_per_s=1e12,
)


class Quality:
    """As much of a quality report as the command uses."""

    def to_dict(self):
        return {"perplexity": float("inf"), "tokens": 8}

    def __rich__(self):
        return "perplexity 12.7"


class Simulator:
    """Remembers how it was called, and fails when told to."""

    def __init__(self):
        self.calls = []
        self.failure = None
        self.num_set_aside, self.free_keys = 0, ()
        self.one_program = self.with_parts = False
        self.sample = None

    def simulate(
        self,
        machine,
        workload,
        recipe,
        settings,
        *,
        engine="compiled",
        sample="never",
        timeline=False,
        one_program=False,
        with_parts=False,
    ):
        recipe = None if recipe is None else str(recipe)
        self.calls.append((machine, workload, recipe, settings, engine))
        self.one_program, self.with_parts, self.sample = one_program, with_parts, sample
        if self.failure:
            raise self.failure
        return Report(machine, workload, recipe or PICKED, TIMELINE if timeline else None)

    def record(self, machine, workload, recipe, settings):
        self.calls.append((machine, workload, recipe, settings))
        return [f"{index} load" for index in range(5)]

    def evaluate_caches(self, *arguments, progress):
        self.calls.append(arguments)
        if self.failure:
            raise self.failure
        progress(60, 60)
        return [Quality() for _ in arguments[1]]

    def sweep(self, spec, out, **how):
        self.calls.append((spec, out, how))
        if self.failure:
            raise self.failure
        how["progress"](3, 3)
        return SimpleNamespace(
            num_points=3,
            num_excluded=1,
            num_run=2,
            num_by_status={"ok": 2, "infeasible": 1},
            num_set_aside=self.num_set_aside,
            free_keys=self.free_keys,
            csv=out / "results.csv",
            parquet=out / "results.parquet",
        )


SHIPPED = recipes.get_kernel


def get_kernel(name):
    if name not in CYCLES:
        raise unknown_name("kernel", name, CYCLES)
    return SimpleNamespace(
        name=name,
        summary=f"{name} attention",
        problem_kind="attention",
        query_rows="any" if name == "dense" else "one",
        is_exact=name == "dense",
        parameters=Parameters,
    )


@pytest.fixture
def simulator(monkeypatch):
    """Put stand-ins in the place of the modules that the commands import when they run."""
    fake = Simulator()
    modules = {
        "accelsim.simulation": {
            "simulate": fake.simulate,
            "record": fake.record,
            "check_comparison": lambda *_: None,
        },
        "accelsim.program.printer": {
            "format_program": lambda program, limit=None: "\n".join(program[:limit])
        },
        "accelsim.kernels.registry": {
            "kernel_names": lambda: list(CYCLES),
            "get_kernel": get_kernel,
        },
        "accelsim.sweeps.contents": {"load_sweep": lambda _file: SimpleNamespace(name="tiles")},
        "accelsim.sweeps.run": {"sweep": fake.sweep},
        "accelsim.quality.evaluate": {"evaluate_caches": fake.evaluate_caches},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(recipes, "get_kernel", get_kernel)
    return fake


@pytest.fixture
def shipped_kernels(simulator, monkeypatch):
    """Let recipes be those of kernels that ship, for commands whose stand-ins run nothing."""
    monkeypatch.setattr(recipes, "get_kernel", SHIPPED)


@pytest.fixture
def accelsim_command(simulator):
    """Run the command line with the given words; the result has exit_code, stdout, stderr."""
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def results_table(tmp_path):
    """A folder with the table of a sweep."""
    pd.DataFrame(
        {
            "machine": "edge-npu",
            "workload": "w",
            "kernel": ["dense", "flash", "flash"],
            "tile_q": [64, 64, 128],
            "machine.scratchpad.capacity": [65536, 65536, 131072],
            "time_s": [3e-6, 2e-6, 1e-6],
            "energy_j": [3e-3, 1e-3, 2e-3],
            "macs": 1e6,
            "hbm_read_bytes": 4e6,
            "hbm_write_bytes": 1e6,
            "peak_macs_per_s": 1e12,
            "peak_hbm_bytes_per_s": 1e12,
        }
    ).to_csv(tmp_path / "results.csv", index=False)
    return tmp_path
