"""Run this experiment: `python run.py OUT [short | length ...]`, which writes two tables to OUT.

perplexity.csv: a model decodes the end of a window of real text with each kernel in every layer.
needles.csv: it is asked for pass keys that lie far back, in prompts of so many tokens. A run that
was stopped goes on where it stopped. Without lengths: 2,000 and 8,000. short: the ends
of two texts, and prompts of 8,000 from one text, with the key in the middle and early.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product, starmap
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import pandas as pd

from accelsim import Recipe, compare_needles, learn_thresholds
from accelsim.kernels.attention.decode.thresholds import save_thresholds
from accelsim.quality.chosen import choose_kernels
from accelsim.quality.layers import layer_costs
from accelsim.quality.needle_report import NeedleReport
from accelsim.quality.passes import KernelNetwork, Passes, Window
from accelsim.quality.search import Search
from accelsim.quality.summary import Quality, measured
from accelsim.quantization.calibration import Sampling
from accelsim.report.report import Report
from accelsim.workload.model.language import load_model
from accelsim.workload.model.texts import read_texts

MODEL, MACHINE = "smollm2", "ascend-910b"
LEARNED_ON = "reference", "code"
PAGES = Sampling(windows=1, window=2048, first_token=8192)
TRIALS = 2
"""Prompts of every place."""
TAUS = (0.5, 0.75, 0.9)
"""Shares that are left out; topk and quest keep the others exactly."""
TEXTS = ("novel", "legal", "manual", "science")
"""None of them was learned on."""
WINDOW, DECODED = 2048, 128
"""Tokens of a window, and how many of its end are decoded."""
WINDOWS = (128, 512)
DEPTHS = (0.5, 0.1, 0.9)


class Extent(NamedTuple):
    """How much is asked."""

    decoded: tuple[str, ...] = TEXTS
    """Texts whose end is decoded."""
    lengths: Sequence[int] = (2000, 8000)
    """Of prompts with a needle."""
    texts: tuple[str, ...] = TEXTS[:2]
    depths: tuple[float, ...] = DEPTHS


SHORT = Extent(TEXTS[:2], (8000,), TEXTS[:1], DEPTHS[:2])

Row = dict[str, Any]


class Place(NamedTuple):
    """Where needles are planted."""

    length: int
    text: str
    depth: float


def recipes(thresholds: Path) -> dict[str, Recipe]:
    """Return the kernels that are compared, by the name of a family and a budget."""
    found = {"split_kv": Recipe("split_kv")}
    for tau in TAUS:
        kept = round(1 - tau, 2)
        found[f"sift {tau:g}"] = Recipe("sift", thresholds=thresholds, tau=tau)
        found[f"topk {kept:g}"] = Recipe("topk", kept=kept)
        found[f"quest {kept:g}"] = Recipe("quest", kept=kept)
    tau = TAUS[-1]
    law = {"thresholds": thresholds, "tau": tau, "rule": "c_over_t"}
    found[f"sift c/t {tau:g}"] = Recipe("sift", **law)
    return found | {f"window {width}": Recipe("window", window=width) for width in WINDOWS}


def perplexity(chosen: dict[str, Recipe], text: str) -> Iterator[Row]:
    """Yield a row for each kernel: what it decodes of the end of a window."""
    network = load_model(MODEL)
    (source,) = read_texts(text)
    ids = network.opened(network.token_ids(source.content, WINDOW + 1))
    choices = [choose_kernels(recipe, {}, MACHINE) for recipe in chosen.values()]
    passes = Passes(network, choices, 1, lambda done, total: None, with_prompts=True)
    found = passes.read(Window(ids, WINDOW - DECODED))
    for name, kernels, predictions in zip(chosen, passes.kernels, found, strict=True):
        (report,) = (cost for cost in kernels.costs(text).values() if cost is not None)
        yield (
            {"kernel": name, "text": text}
            | measured(Quality.of([predictions]))
            | costs(report, DECODED)
            | {"errors_by_layer": errors(kernels), "kept_by_layer": kept(kernels)}
        )


def errors(kernels: KernelNetwork) -> str:
    """Return the error of the attention of each layer, as a list in a cell."""
    return " ".join(f"{each.relative_error:.4g}" for each in layer_costs(kernels.attention))


def kept(kernels: KernelNetwork) -> str:
    """Return the share of the keys that was kept in each layer, as a list in a cell."""
    shares = (each.statistics.get("kept_fraction", 1) for each in layer_costs(kernels.attention))
    return " ".join(f"{share:.4g}" for share in shares)


def needles(chosen: dict[str, Recipe], place: Place) -> Iterator[Row]:
    """Yield a row for each kernel: what it finds in the prompts of a place."""
    search = Search((place.length,), (place.depth,), TRIALS, decode=True)
    reports = compare_needles(MODEL, list(chosen.values()), None, MACHINE, place.text, search)
    for name, report in zip(chosen, reports, strict=True):
        yield {"kernel": name} | place._asdict() | report.total.to_dict() | of_needles(report)


def of_needles(report: NeedleReport) -> Row:
    if report.attention is None:
        raise ValueError("no kernel computed the attention")
    return costs(report.attention, report.tokens)


def costs(report: Report, tokens: int) -> Row:
    """Return what a token costs in all layers, and what was kept."""
    moved = report.hbm_read_bytes + report.hbm_write_bytes
    shares = {
        name: report.statistics.get(name, 1.0)
        for name in ("kept_fraction", "union_fraction", "kept_mass")
    }
    return shares | {
        "token_cycles": report.cycles / tokens,
        "token_hbm_bytes": moved / tokens,
        "token_energy_j": report.energy_j / tokens,
    }


def add(table: Path, known: Row, rows: Callable[[], Iterator[Row]]) -> None:
    """Add rows to a table unless it has those with the known values."""
    before = pd.read_csv(table).to_dict("records") if table.exists() else []
    if any(all(row[name] == value for name, value in known.items()) for row in before):
        return
    started = process_time()
    found = list(rows())
    seconds = process_time() - started
    print(f"{table.stem} {known}: {seconds:.0f} s of CPU", flush=True)
    pd.DataFrame([*before, *found]).to_csv(table, index=False)


def main(out: Path, extent: Extent) -> None:
    out.mkdir(parents=True, exist_ok=True)
    thresholds = out / "thresholds.safetensors"
    if not thresholds.exists():
        save_thresholds(learn_thresholds(MODEL, TAUS, PAGES, LEARNED_ON), thresholds)
        print(f"wrote {thresholds}", flush=True)
    chosen = recipes(thresholds.absolute())
    for text in extent.decoded:
        add(out / "perplexity.csv", {"text": text}, lambda own=text: perplexity(chosen, own))
    for place in starmap(Place, product(extent.lengths, extent.texts, extent.depths)):
        known = place._asdict()
        add(out / "needles.csv", known, lambda own=place: needles(chosen, own))


def asked(words: Sequence[str]) -> Extent:
    """Return what the words of the command ask for."""
    if list(words) == ["short"]:
        return SHORT
    return Extent(lengths=[int(each) for each in words]) if words else Extent()


if __name__ == "__main__":
    main(Path(sys.argv[1]), asked(sys.argv[2:]))
