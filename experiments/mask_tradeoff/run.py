"""Run every mask on real heads and save one row a point: python run.py OUT

With the model fetched (`accelsim model fetch smollm2`), heads of 1,024 to 16,384 tokens; without,
only the shipped heads of 1,024 tokens.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim import Recipe, simulate
from accelsim.errors import WorkloadError
from accelsim.loading import LoadedWorkload
from accelsim.workload.model.capture import capture_ids
from accelsim.workload.model.language import default_text, load_model
from accelsim.workload.problem import AttentionProblem

MACHINE = "ascend-910b-no-l2"
GROUPS = {11: 1, 18: 2}
"""Layer -> KV head, the same as in workloads/data/smollm2_heads.npz."""
GROUP = 3
CONTEXT = 8192
FAR_PART = 24576
"""First token of the second half of the longest workload; gates were fitted on tokens before."""
LENGTHS = (1024, 2048, 4096, 8192, 16384)
SWEPT_LENGTH = 4096
WEIGHTS = "data/smollm2_masks.safetensors"
COVERAGES = (0.5, 0.7, 0.85, 0.95, 0.98)
THRESHOLDS = (0.003, 0.01, 0.03)
WINDOWS = (128, 512, 1024, 2048)
COLUMNS = (
    "cycles",
    "hbm_read_bytes",
    "hbm_write_bytes",
    "energy_j",
    "scratchpad_peak_bytes",
    "scratchpad_held_peak_bytes",
    "core_balance",
    "bound_by",
    "statistics.density",
    "statistics.kept_mass",
    "statistics.recall",
    "accuracy.relative_rmse",
)

Point = dict[str, object]


def capture_longest(folder: Path) -> dict[int, Path]:
    """Save Q, K and V of 16,384 tokens for every layer: two parts of the text, side by side."""
    paths = {layer: folder / f"layer{layer}.npz" for layer in GROUPS}
    if all(path.exists() for path in paths.values()):
        return paths
    model = load_model("smollm2")
    ids = model.token_ids(default_text(), FAR_PART + CONTEXT)
    parts = [
        capture_ids(model, ids[start : start + CONTEXT], list(GROUPS)) for start in (0, FAR_PART)
    ]
    for layer, head in GROUPS.items():
        arrays = {}
        for name, first, count in (("q", GROUP * head, GROUP), ("k", head, 1), ("v", head, 1)):
            halves = [part[f"layer{layer}.{name}"][first : first + count] for part in parts]
            arrays[name] = np.concatenate(halves, axis=1).astype(np.float16)
        np.savez(paths[layer], **arrays)
    return paths


def workload(folder: Path, layer: int, tokens: int, source: Path) -> LoadedWorkload:
    """Return the first `tokens` tokens of a layer's heads as a workload."""
    path = folder / f"layer{layer}-{tokens}.npz"
    with np.load(source) as arrays:
        prefix = "" if "q" in arrays else f"layer{layer}."
        np.savez(path, **{name: arrays[prefix + name][:, :tokens] for name in "qkv"})
    problem = AttentionProblem(
        kind="attention",
        name=f"layer {layer}, {tokens} tokens",
        q_heads=GROUP,
        kv_heads=1,
        head_dim=64,
        q_len=tokens,
        kv_len=tokens,
        causal=True,
        tensors={"source": "file", "path": path.name},
    )
    return LoadedWorkload(problem, folder)


def scorers(layer: int) -> dict[str, Point]:
    """Return the parameters of every scored mask, by the name it has in the figure."""
    fitted = {"weights": WEIGHTS, "weights_prefix": f"layer{layer}."}
    return {
        "pooled": {"mask": "pooled"},
        "antidiagonal": {"mask": "antidiagonal"},
        "indexer, random": {"mask": "indexer"},
        "indexer, fitted": {"mask": "indexer", **fitted},
        "gate": {"mask": "gate", **fitted},
    }


def swept_points(layer: int) -> Iterator[tuple[str, Point]]:
    """Yield every mask over its own knob."""
    for name, settings in scorers(layer).items():
        for coverage in COVERAGES:
            yield name, {**settings, "coverage": coverage}
        for threshold in THRESHOLDS:
            yield name, {**settings, "select": "threshold", "threshold": threshold}
    for mask in ("window", "sinks_window", "dilated"):
        for window in WINDOWS:
            yield mask, {"mask": mask, "window": window}


def length_points(layer: int) -> Iterator[tuple[str, Point]]:
    """Yield every mask with one setting."""
    for name, settings in scorers(layer).items():
        yield name, {**settings, "coverage": 0.9}
    for mask in ("window", "sinks_window", "dilated"):
        yield mask, {"mask": mask, "window": 512}


def main() -> None:
    """Run the points that points.csv does not hold yet, and add each of them to it."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    try:
        sources, lengths, swept = capture_longest(out), LENGTHS, SWEPT_LENGTH
    except WorkloadError as error:
        print(f"only the shipped heads of 1,024 tokens: {error}")
        shipped = Path(__file__).parents[2] / "workloads" / "data" / "smollm2_heads.npz"
        sources, lengths, swept = dict.fromkeys(GROUPS, shipped), LENGTHS[:1], LENGTHS[0]
    table = out / "points.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {row["point"] for row in rows}
    for layer, source in sources.items():
        for tokens in lengths if layer == min(GROUPS) else (swept,):
            loaded = workload(out, layer, tokens, source)
            points = [("flash", {}), *length_points(layer)]
            points += swept_points(layer) if tokens == swept else ()
            for label, settings in points:
                point = f"{loaded.problem.name}: {label} {settings}"
                if point not in done:
                    rows.append({"point": point, "layer": layer, "tokens": tokens, "label": label})
                    rows[-1] |= settings | costs(loaded, label, settings)
                    pd.DataFrame(rows).to_csv(table, index=False)


def costs(loaded: LoadedWorkload, label: str, settings: Point) -> Point:
    """Simulate one point."""
    kernel = "flash" if label == "flash" else "sparse"
    row = simulate(MACHINE, loaded, Recipe(kernel, **settings)).to_row()
    print(f"{loaded.problem.name}, {label}: {row['cycles']} cycles", flush=True)
    return {column: row.get(column) for column in COLUMNS}


if __name__ == "__main__":
    main()
