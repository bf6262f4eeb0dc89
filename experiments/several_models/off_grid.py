"""Write SmolLM2 with weights that lie on no 4-bit grid: `python off_grid.py OUT.gguf`.

Every weight of a linear gets what rounding may have taken from it: a uniform number within half a
step of its block of Q4_1. These are not the weights before they were quantized, which no package
ships. They are as spread as those, and need all bits that a format has.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

from accelsim.workload.model.release import model_path

BLOCK = 32
"""Weights of a block of Q4_1; two FP16 numbers, step and minimum, precede their codes."""


def main(out: Path) -> None:
    """Write a copy of the fetched model in FP32."""
    source, rng = gguf.GGUFReader(model_path("smollm2")), np.random.default_rng(46)
    writer = gguf.GGUFWriter(out, "llama")
    for key, field in source.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kinds = (field.types[0], field.types[-1] if len(field.types) > 1 else None)
            writer.add_key_value(key, field.contents(), *kinds)
    for tensor in source.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type == gguf.GGMLQuantizationType.Q4_1:
            values = values + noise(tensor.data, values.shape, rng)
        writer.add_tensor(tensor.name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def noise(packed: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return uniform numbers within half a step of each block."""
    blocks = packed.reshape(-1, 4 + BLOCK // 2)
    steps = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    return (steps * rng.uniform(-0.5, 0.5, (len(steps), BLOCK)).astype(np.float32)).reshape(shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
