"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd

from accelsim.plotting.style import MARKERS, color_of, dress, new_figure

VENDOR = "flash, fp32 vector path"
ONE_TILE = "flash, fp32, one tile at a time"
PREFILL = {
    "flash(precision=fp16_fp32)": VENDOR,
    "flash(precision=fp16_fp32, query_tiles=1)": ONE_TILE,
    "flash(precision=fp16)": "flash, all fp16",
    "pasa": "pasa",
    "pasa(statistics=fp32)": "pasa, fp32 statistics",
    "pasa(shift=per_query_tile)": "pasa, K' per query tile",
    "centered": "centered",
}
DECODE = {
    "flash(precision=fp16_fp32)": VENDOR,
    "pasa(shift=cached)": "pasa, K' in the cache",
    "pasa": "pasa, K' made once",
    "pasa(shift=per_query_tile)": "pasa, K' per query tile",
    "centered(shift=cached)": "centered, K' in the cache",
}
"""Recipe -> the name of the variant in the figure, in the order of the figure."""
LINES = (VENDOR, ONE_TILE, "flash, all fp16", "pasa", "centered")
"""Variants with a curve; the others lie on that of pasa."""
Q_HEADS, HEAD_DIM = 28, 128
LOW, HIGH = 1.2, 1.65
"""Published speed-up over the vendor kernel."""
PEAK_PUBLISHED_TFLOPS = 170


def of_step(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return the rows of the named recipes, with variant, tokens and rate."""
    rows = table[table.kernel.isin(names)].copy()
    rows["variant"], rows["tokens"] = rows.kernel.map(names), rows["workload.kv_len"]
    # Operations of both products, as papers count.
    operations = 4 * Q_HEADS * HEAD_DIM * rows["workload.q_len"] * rows.tokens
    rows["tflops"] = operations / rows.time_s / 1e12
    order = [list(names).index(kernel) for kernel in rows.kernel]
    return rows.assign(order=order).sort_values(["order", "tokens"])


def draw(results: Path, folder: Path) -> Path:
    table = pd.read_csv(results / "results.csv")
    figure = new_figure(11, 8)
    rate, gain, decode, units = figure.subplots(2, 2).flat
    is_decode = table["workload.q_len"] == 1
    prefill = of_step(table[~is_decode], PREFILL)
    variants = list(dict.fromkeys(prefill.variant))
    vendor = prefill[prefill.variant == VENDOR].set_index("tokens").time_s
    for index, variant in enumerate(LINES):
        rows = prefill[prefill.variant == variant].set_index("tokens")
        style = {"color": color_of(index), "marker": MARKERS[index], "label": variant}
        rate.plot(rows.index, rows.tflops, **style)
        gain.plot(rows.index, vendor / rows.time_s, **style)
    dress(rate, "Prefill rate", "tokens", "TFLOP/s")
    rate.axhline(PEAK_PUBLISHED_TFLOPS, color="#555555", linestyle="--", linewidth=1)
    rate.annotate("published peak", (1024, PEAK_PUBLISHED_TFLOPS + 3), fontsize=9)
    rate.set_ylim(0, 225)
    dress(gain, "Prefill speed-up over the FP32 vector path", "tokens", "times faster")
    gain.axhspan(LOW, HIGH, color="#DDDDDD", zorder=0)
    gain.annotate("published range", (1024, LOW + 0.02), fontsize=9)
    gain.set_ylim(0.8, 2)
    for axes in (rate, gain):
        axes.set_xscale("log", base=2)
        axes.set_xticks(vendor.index, [f"{tokens:,}" for tokens in vendor.index])
    rate.legend(fontsize=8, loc="lower right", frameon=False)
    draw_decode(decode, of_step(table[is_decode], DECODE))
    draw_units(units, prefill[prefill.tokens == prefill.tokens.max()], variants)
    path = folder / "pasa_speed.png"
    figure.savefig(path, dpi=110)
    return path


def draw_decode(axes, decode) -> None:
    vendor = decode[decode.variant == VENDOR].set_index("tokens").time_s
    variants = [name for name in dict.fromkeys(decode.variant) if name != VENDOR]
    for index, variant in enumerate(variants):
        rows = decode[decode.variant == variant].set_index("tokens")
        places = [place + 0.2 * (index - 1.5) for place in range(len(rows))]
        axes.bar(places, rows.time_s / vendor, 0.19, color=color_of(index + 1), label=variant)
    axes.axhline(1, color="#555555", linestyle="--", linewidth=1)
    axes.set_xticks(range(len(vendor)), [f"{tokens:,}" for tokens in vendor.index])
    axes.set_ylim(0, 2.75)
    dress(axes, "Decode step: time against flash", "cached tokens", "relative time")
    axes.legend(fontsize=8, loc="upper right", ncols=2, frameon=False)


def draw_units(axes, rows, variants) -> None:
    rows = rows.set_index("variant").loc[variants]
    shares = {"cube": "units.cube.utilization", "vector": "units.vector.utilization"}
    shares["HBM"] = "hbm_utilization"
    for index, (name, column) in enumerate(shares.items()):
        places = [place + 0.27 * (index - 1) for place in range(len(rows))]
        axes.barh(places, rows[column], 0.26, color=color_of(index), label=name)
    axes.set_yticks(range(len(rows)), variants)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    dress(axes, f"Busy units at {rows.tokens.iloc[0]:,} tokens", "share of the time", "")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1]), Path(sys.argv[2])))
