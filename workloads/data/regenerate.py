"""Capture the tensors in this folder again: python workloads/data/regenerate.py

Needs `pip install 'accelsim[models]'` and `accelsim model fetch smollm2`. NOTICE says what the
files hold. One BLAS thread: the number of threads changes the order of sums.
"""

import hashlib
import os
import platform
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from accelsim.workload.model.capture import capture
from accelsim.workload.model.language import default_text, load_model

HEADS_TOKENS = 1024
LINEAR_TOKENS = 256
LINEAR_LAYER = 11
GROUPS = {11: 1, 18: 2}
"""Layer -> KV head, taken with its three query heads."""


def main() -> None:
    """Write smollm2_heads.npz and smollm2_linear.npz next to this file."""
    model, text = load_model("smollm2"), default_text()
    seen = capture(model, text, HEADS_TOKENS, list(GROUPS))
    heads = {}
    for layer, group in GROUPS.items():
        heads[f"layer{layer}.q"] = seen[f"layer{layer}.q"][3 * group : 3 * group + 3]
        heads[f"layer{layer}.k"] = seen[f"layer{layer}.k"][group : group + 1]
        heads[f"layer{layer}.v"] = seen[f"layer{layer}.v"][group : group + 1]
    linear = {
        "a": seen[f"layer{LINEAR_LAYER}.qkv_input"][:LINEAR_TOKENS],
        "b": model.weights.layers[LINEAR_LAYER].linears["q"].T,
    }
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    print(f"text sha256 {hashlib.sha256(text.encode()).hexdigest()}")
    for name, arrays in {"smollm2_heads.npz": heads, "smollm2_linear.npz": linear}.items():
        path = Path(__file__).parent / name
        np.savez_compressed(path, **{key: v.astype(np.float16) for key, v in arrays.items()})
        print(f"{name} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
