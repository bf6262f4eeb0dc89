"""What the linears of a small and of a large model take, in every form, at equal area."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from forms import DESIGNS, FORMS, Design, Form

from accelsim import Recipe, simulate
from accelsim.accounts.area import arithmetic_area_mm2
from accelsim.config.shipped import locate
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import LoadedWorkload, load_machine, load_technology
from accelsim.report.report import Report
from accelsim.workload.problem import GemmProblem

LAYERS = {
    "SmolLM2-135M": (30, {"qkv": (960, 576), "o": (576, 576)}),
    "Llama-3-8B": (32, {"qkv": (6144, 4096), "o": (4096, 4096)}),
}
FFN = {
    "SmolLM2-135M": {"gate-up": (3072, 576), "down": (576, 1536)},
    "Llama-3-8B": {"gate-up": (28672, 4096), "down": (4096, 14336)},
}
"""Model -> layers and linear -> (n, k); config.json of HuggingFaceTB/SmolLM2-135M and of
meta-llama/Meta-Llama-3-8B."""
ROWS = {"prefill": 2048, "decode": 1}
RUNS = (("SmolLM2-135M", "prefill"), ("Llama-3-8B", "prefill"), ("Llama-3-8B", "decode"))
CUBE_DEPTHS = (96, 192, 384)
"""Whole blocks, and whole steps of a cube of depth 6."""
ARRAY = "machine.int_mac."
SHIFT_SHARE = 4462 / 4337 - 1
"""Of the area of a 4-bit element with a 32-bit accumulator: um2 with and without a shift by one, as
synthesized with Yosys 0.23 for the cells of sky130_fd_sc_hd."""
SYNTHESIS = (
    "synthesis",
    "4,462 um2 with a shift by one, 4,337 um2 without: an element with Yosys 0.23 for the cells of "
    "sky130_fd_sc_hd; what aligns sums is assumed to shrink alike",
)
SIDES = {"doubles sums": (68, 70), "aligns sums": (66, 68)}
"""Arrays of the same area, if a shift takes that share of an element, and if what aligns sums
shrank alike, from 51 to 8 %."""


def synthesized(folder: Path) -> dict[str, Design]:
    """Return the arrays of that area, and write their technology into a folder."""
    source = locate("28nm", "technology")
    technology = yaml.safe_load(source.read_text())
    element = _number(technology["int_mac"]["area"])
    shrinks = SHIFT_SHARE * element / _number(technology["int_mac"]["shift_area"])
    for part, key in (("int_mac", "shift_area"), ("int_align", "area")):
        smaller = shrinks * _number(technology[part][key])
        technology[part][key] = {"value": f"{smaller:.4g} mm2", "source": SYNTHESIS[0]}
    technology["references"] |= dict([SYNTHESIS])
    path = folder / "28nm-synthesized-shift.yaml"
    path.write_text(yaml.safe_dump(technology, sort_keys=False))
    designs = {}
    for name, (rows, cols) in SIDES.items():
        sides = {f"{ARRAY}rows": rows, f"{ARRAY}cols": cols}
        own = {"machine.technology": str(path), **sides}
        designs[name] = Design(DESIGNS[name].machine, own)
    return designs


def _number(quantity: dict[str, str]) -> float:
    return float(quantity["value"].split()[0])


class CostPoint(NamedTuple):
    """All linears of a model, in one form."""

    model: str
    phase: str
    form: Form
    input: str
    shift: str
    """Where the area of the shift comes from."""
    design: Design


def cost_points(folder: Path) -> Iterator[CostPoint]:
    """Yield forms, X to be encoded or encoded by what produced it, on arrays of both areas."""
    others = synthesized(folder)
    for model, phase in RUNS:
        for form in FORMS.values():
            for given in ("float", "quantized"):
                yield CostPoint(model, phase, form, given, "assumed", DESIGNS[form.design])
            if form.design in others:
                other = others[form.design]
                yield CostPoint(model, phase, form, "float", "synthesized", other)


def cost_row(point: CostPoint) -> dict[str, Any]:
    """Return time, energy and bytes of a token, and the area of the arithmetic."""
    layers, attention = LAYERS[point.model]
    machine, settings = point.design
    recipe = point.form.recipe.updated({"input": point.input})
    rows = ROWS[point.phase]
    parts = []
    for name, (n, k) in (attention | FFN[point.model]).items():
        problem = GemmProblem(kind="gemm", name=name, m=rows, n=n, k=k)
        parts.append(best(problem, recipe, point.design))
    per_token = layers / rows
    return {
        "model": point.model,
        "phase": point.phase,
        "form": point.form.name,
        "design": point.form.design,
        "input": point.input,
        "shift_area": point.shift,
        "arithmetic_mm2": _arithmetic_mm2(machine, tuple(settings.items())),
        "us_per_token": 1e6 * per_token * sum(part.time_s for part in parts),
        "uj_per_token": 1e6 * per_token * sum(part.energy_j for part in parts),
        "accumulator_uj_per_token": 1e6
        * per_token
        * sum(part.energy_by_component_j["accumulator"] for part in parts),
        "hbm_bytes_per_token": per_token
        * sum(part.hbm_read_bytes + part.hbm_write_bytes for part in parts),
    }


def best(problem: GemmProblem, recipe: Recipe, design: Design) -> Report:
    """Return the run with tiles as chosen or of whole passes of the unit, by time times energy.

    A pass in INT8 takes half of the sides of an array. Kernels choose tiles among powers of two,
    which leave arrays of other sides partly idle.
    """
    machine, settings = design
    workload = LoadedWorkload(problem, Path())
    found = []
    for tiles in _tiles(*design):
        with suppress(DoesNotFitError):
            found.append(simulate(machine, workload, recipe.updated(tiles), settings))
    return min(found, key=lambda report: report.time_s * report.energy_j)


def _tiles(machine: str, settings: dict[str, Any]) -> Iterator[dict[str, int]]:
    """Yield no tiles, and some of the sides of the array or of the depth of the cube."""
    yield {}
    spec = _machine(machine, tuple(settings.items()))
    if spec.cube is not None:
        yield from ({"tile_k": depth} for depth in CUBE_DEPTHS)
        return
    for rows, cols in product((2, 3, 4), (2, 3)):
        yield {"tile_m": rows * spec.int_mac.rows // 2, "tile_n": cols * spec.int_mac.cols // 2}


@cache
def _machine(name: str, settings: tuple[tuple[str, Any], ...]) -> MachineSpec:
    own = {key.removeprefix("machine."): value for key, value in settings}
    return load_machine(name, own)


@cache
def _arithmetic_mm2(name: str, settings: tuple[tuple[str, Any], ...]) -> float:
    """Return the area of the matrix unit."""
    machine = _machine(name, settings)
    area = arithmetic_area_mm2(machine, load_technology(machine.technology))
    return sum(area.get(unit, 0.0) for unit in ("int_mac", "cube"))
