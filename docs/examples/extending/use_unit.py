"""Use the table unit of `unit.patch`: GELU of 64 x 64 numbers, in two work items."""

import math
from pathlib import Path

import numpy as np

from accelsim import language as al
from accelsim import load_machine
from accelsim.accounts.activity import count_activity
from accelsim.accounts.area import area_by_component_mm2
from accelsim.accounts.energy import energy_by_component
from accelsim.engine import compiled, reference
from accelsim.loading import load_technology
from accelsim.program.ops import Unit
from accelsim.program.verifier import verify

ROWS, COLS, TILE_ROWS = 64, 64, 32


@al.jit
def activation(p, x, y, tiles, table):
    for item in range(x.rows // tiles.rows):
        al.begin_item(p, 0)
        tile = al.tile(tiles, item, tiles.rows, tiles.cols)
        al.load(p, tile, x, item * tiles.rows, 0)
        al.look_up(p, tile, tile, table)
        al.store(p, y, item * tiles.rows, 0, tile)


def gelu(x):
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


def record(entries):
    """Return the program, and the largest error of its result."""
    points = np.linspace(-4, 4, entries)
    table = al.Table(-4.0, 4.0, np.array([gelu(x) for x in points], np.float32))
    numbers = np.linspace(-4, 4, ROWS * COLS, dtype=np.float32).reshape(ROWS, COLS)
    build = al.ProgramBuilder("activation", with_numbers=True)
    x = build.tensor("x", "input", ROWS, COLS, al.Format.FP16, numbers)
    y = build.tensor("y", "output", ROWS, COLS, al.Format.FP16)
    tiles = build.buffer("tiles", TILE_ROWS, COLS, al.Format.FP16, slots=2)
    program = build.record(activation, ROWS // TILE_ROWS, x, y, tiles, table)
    verify(program)
    return program, np.abs(y.data - np.vectorize(gelu)(numbers)).max()


machine = load_machine(Path(__file__).parent / "table-npu.yaml")
technology = load_technology(machine.technology)
program, error = record(machine.table.entries)
print(f"largest error {error:.3f}")
for engine in (compiled, reference):
    schedule = engine.schedule(program, machine)
    busy_cycles = schedule.busy[program.units == Unit.TABLE].sum()
    activity = count_activity(schedule, machine)
    energy_j = energy_by_component(activity, machine, technology)["table"]
    print(f"{engine.__name__}: {schedule.cycles} cycles, table busy for {busy_cycles}")
    print(f"{activity.actions}, {energy_j:.4g} J")
print(f"{area_by_component_mm2(machine, technology)['table']:.4g} mm2")
try:
    compiled.schedule(program, load_machine("edge-npu"))
except al.DoesNotFitError as refusal:
    print(refusal)
