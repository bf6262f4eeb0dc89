"""What a model gains that drafts for itself with quantized weights.

    python run.py OUT [STEP]

STEP is `acceptance` or `costs`; absent: both, in this order. `acceptance` writes one JSON of
`accelsim quality` a scheme; it needs a model (`accelsim model fetch smollm2`). `costs` writes
OUT/turns.csv, a row for each length of a draft, with the acceptance that was measured. Either goes
on where it was stopped.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

import accelsim
from accelsim.inference.speculation import speculate
from accelsim.library.kernels import Kernels
from accelsim.quality.passages import Reading
from accelsim.workload.drafting import Drafting

MODEL, SERVED = "smollm2", "llama-3.1-8b"
MACHINE = "h200-sxm"
SCHEMES = ("weight_only(group_rows=128)", "weight_only(group_rows=32)", "weight_only(bits=8)")
TEXTS = ("code", "legal", "novel", "play", "reference")
TOKENS = 256
SYSTEMS, BATCHES = ("h200", "ascend-910b"), (1, 8)
PROMPT, OUTPUT = 2048, 256


def file_of(out: Path, scheme: str) -> Path:
    """Return where the acceptance of a scheme is kept."""
    return out / f"{SCHEMES.index(scheme)}.json"


def measure(out: Path) -> None:
    """Write what FP32 accepts of drafts of each scheme."""
    for scheme in SCHEMES:
        path = file_of(out, scheme)
        if path.exists():
            continue
        report = accelsim.evaluate(
            MODEL,
            Kernels(linear=scheme),
            machine=MACHINE,
            reading=Reading(TEXTS, tokens=TOKENS, window=TOKENS),
        )
        path.write_text(json.dumps({"scheme": scheme, **report.to_dict()}, indent=1))
        print(f"{scheme}: {report.acceptance.value:.3f}", flush=True)


def turns(out: Path, system: str, batch: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each length of a draft of each scheme."""
    found = accelsim.infer(
        SERVED, system, batch=batch, prompt=PROMPT, output=OUTPUT, steps="interpolated"
    )
    for scheme in SCHEMES:
        told = speculate(
            found, Drafting(draft=SERVED, linear=scheme, acceptance=str(file_of(out, scheme)))
        ).to_dict()
        for turn in told["turns"]:
            yield {
                "system": system,
                "batch": batch,
                "scheme": scheme,
                "best_length": told["best_length"],
                **turn,
            }


def costs(out: Path) -> None:
    """Write the costs of turns."""
    path = out / "turns.csv"
    rows = pd.read_csv(path) if path.exists() else pd.DataFrame({"system": [], "batch": []})
    for system in SYSTEMS:
        for batch in BATCHES:
            if ((rows["system"] == system) & (rows["batch"] == batch)).any():
                continue
            own = pd.DataFrame(list(turns(out, system, batch)))
            rows = pd.concat([rows, own], ignore_index=True) if len(rows) else own
            rows.to_csv(path, index=False)
            print(f"{system}, batch {batch}: {len(own)} rows", flush=True)


def main(out: Path, step: str | None = None) -> None:
    """Run one step or both."""
    out.mkdir(parents=True, exist_ok=True)
    for name, work in (("acceptance", measure), ("costs", costs)):
        if step in (None, name):
            work(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
