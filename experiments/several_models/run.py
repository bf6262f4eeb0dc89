"""What kernels do to several models: one window of every kind of text, in each of them.

    python run.py OUT [model ...]

A model is the name of a fetched one, or a path; without any, all that can be fetched. A run that
was stopped goes on where it stopped.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from accelsim import Recipe
from accelsim.errors import AccelsimError
from accelsim.library.kernels import Kernels
from accelsim.quality.attention import KernelAttention
from accelsim.quality.chosen import choose_kernels
from accelsim.quality.linear import KernelLinear
from accelsim.quality.predictions import compare_predictions
from accelsim.quality.summary import Quality, measured
from accelsim.quantization.calibration import Sampling, best_options, calibrate
from accelsim.quantization.calibration_file import save_calibration
from accelsim.workload.model.forward import PLAIN, Hooks, final_states
from accelsim.workload.model.language import load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.place import find_model
from accelsim.workload.model.release import RELEASES
from accelsim.workload.model.texts import read_texts

WINDOW = 512
"""As many tokens as Gemma 3 reads at once without a sliding window."""
PAGES = Sampling()
"""What `accelsim calibrate` reads of every text."""
BITS = 8
"""Of inputs and weights of the linears; in the form that `accelsim calibrate` gives them."""
TEXTS = ("legal", "code", "novel", "manual", "science", "play", "c", "reference")
"""In this order: a run that is stopped early has read texts in which kernels differ."""
MACHINES = {"attention": "ascend-910b", "linear": "tender-asic"}
KERNELS = {
    "flash(precision=fp16)": "attention",
    "pasa": "attention",
    "sift": "attention",
    "quantized": "linear",
    "tender": "linear",
}
"""Recipe -> what of the network it computes; all else is in FP32."""


class Point(NamedTuple):
    """A row of the table."""

    model: str
    kernel: str
    text: str


def points(models: Sequence[str]) -> Iterator[Point]:
    """Yield every kind of text with every model and kernel, one text with all of them first."""
    for kind in TEXTS:
        for model in models:
            yield from (Point(model, kernel, kind) for kernel in KERNELS)


def recipe_of(point: Point, folder: Path) -> Recipe:
    """Return the kernel with its defaults, calibrated on the model if it needs that."""
    if point.kernel != "tender":
        return Recipe.parse(point.kernel)
    path = folder / f"{Path(point.model).name}.safetensors"
    if not path.exists():
        pages = pages_of(point.model)
        found = calibrate(point.model, best_options(BITS), pages, weight_bits=BITS)
        save_calibration(found, path)
    return Recipe("tender", calibration=path)


def pages_of(model: str) -> Sampling:
    """Return as many tokens as usual, in windows that the model can read at once."""
    window = min(PAGES.window, load_model(model).weights.config.context)
    return replace(PAGES, window=window, windows=PAGES.windows * PAGES.window // window)


def quality(point: Point, folder: Path) -> Quality:
    """Return what a kernel does to a model, as `accelsim.evaluate` does, FP32 computed once."""
    part, recipe = KERNELS[point.kernel], recipe_of(point, folder)
    attention, linear = (recipe, None) if part == "attention" else (None, recipe)
    chosen = choose_kernels(Kernels(attention, linear), {}, MACHINES[part])
    hooks = PLAIN
    if chosen.attention is not None:
        hooks = Hooks(attention=KernelAttention(chosen.attention, chosen.dtype))
    if chosen.linear is not None:
        name = find_model(point.model).name
        hooks = Hooks(linear=KernelLinear(chosen.linear, chosen.dtype, name))
    ids = window(point.model, point.text)
    with np.errstate(over="ignore", invalid="ignore"):
        weights = load_model(point.model).weights
        states = final_states(weights, ids[:-1], hooks)
        fp32 = fp32_states(point.model, point.text)
        return Quality.of([compare_predictions(weights, states, fp32, ids[1:])])


def window(model: str, kind: str) -> list[int]:
    """Return the ids of the first tokens of a text and of the one after them."""
    network, (text,) = load_model(model), read_texts(kind)
    return network.opened(network.token_ids(text.content, WINDOW + 1))


@lru_cache
def fp32_states(model: str, kind: str) -> Array:
    """Return the final states of the same network without kernels."""
    return final_states(load_model(model).weights, window(model, kind)[:-1])


def main(out: Path, models: Sequence[str]) -> None:
    """Add the rows that the table does not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    table = out / "models.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {tuple(row[name] for name in Point._fields) for row in rows}
    for point in points([model for model in models if _is_there(model)]):
        if tuple(point) not in done:
            rows.append(_row(point, out))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


def _row(point: Point, out: Path) -> dict[str, Any]:
    started = process_time()
    found = measured(quality(point, out))
    return point._asdict() | found | {"seconds": process_time() - started}


def _is_there(model: str) -> bool:
    try:
        find_model(model)
    except AccelsimError as error:
        print(f"left out: {error}")
        return False
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(RELEASES))
