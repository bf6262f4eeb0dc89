"""A Llama of two layers with random weights, as a GGUF file the size of a photograph."""

from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers

HIDDEN, Q_HEADS, KV_HEADS, FFN, LAYERS = 64, 4, 2, 96, 2
KV_WIDTH = HIDDEN // Q_HEADS * KV_HEADS
TEXT = "hello world, hello 2000 worlds"
"""20 tokens of the tiny model: only `hello` and ` w` are longer than a character."""
LINEARS = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (KV_WIDTH, HIDDEN),
    "attn_v": (KV_WIDTH, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (FFN, HIDDEN),
    "ffn_up": (FFN, HIDDEN),
    "ffn_down": (HIDDEN, FFN),
}


def byte_alphabet():
    """Return GPT-2's printable characters for the 256 bytes."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(each) for each in shown] + [chr(0x100 + each) for each in range(256 - len(shown))]


MERGES = ["h e", "l l", "he ll", "hell o", "\u0120 w"]
TOKENS = byte_alphabet() + [merge.replace(" ", "") for merge in MERGES]


def byte_level_json():
    """Return a tokenizer.json of these tokens, which splits as `smollm` does."""
    bpe = tokenizers.models.BPE(
        {token: index for index, token in enumerate(TOKENS)},
        [tuple(merge.split()) for merge in MERGES],
    )
    tokenizer = tokenizers.Tokenizer(bpe)
    parts = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = parts.Sequence([parts.Digits(True), parts.ByteLevel(False)])
    return tokenizer.to_str()


@dataclass
class TinyModel:
    """What goes into the file; a test changes what it wants before `write`."""

    tensors: dict = field(default_factory=dict)
    types: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        writer = gguf.GGUFWriter(path, self.metadata.get("general.architecture", "llama"))
        for key, value in self.metadata.items():
            add = {
                bool: writer.add_bool,
                int: writer.add_uint32,
                float: writer.add_float32,
                list: writer.add_array,
            }
            if key != "general.architecture":
                add.get(type(value), writer.add_string)(key, value)
        for name, values in self.tensors.items():
            kind = gguf.GGMLQuantizationType[self.types.get(name, "F32")]
            packed = gguf.quantize(values, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def tiny_model():
    """Return the model whose file a test may change before it is written."""
    rng = np.random.default_rng(20)
    model = TinyModel()
    model.metadata = {
        "llama.block_count": LAYERS,
        "llama.embedding_length": HIDDEN,
        "llama.attention.head_count": Q_HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.feed_forward_length": FFN,
        "llama.context_length": 32,
        "llama.rope.freq_base": 1e4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.merges": MERGES,
    }

    def normal(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    model.tensors["token_embd.weight"] = normal(len(TOKENS), HIDDEN)
    model.types["token_embd.weight"] = "Q8_0"
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            model.tensors[f"blk.{layer}.{name}.weight"] = 1 + normal(HIDDEN)
        for name, shape in LINEARS.items():
            model.tensors[f"blk.{layer}.{name}.weight"] = normal(*shape)
            model.types[f"blk.{layer}.{name}.weight"] = "Q4_1"
    model.tensors["output_norm.weight"] = 1 + normal(HIDDEN)
    return model


@pytest.fixture
def tiny():
    return tiny_model()


@pytest.fixture
def tiny_path(tiny, tmp_path):
    return tiny.write(tmp_path / "tiny.gguf")


@pytest.fixture
def installed(tiny, tmp_path, monkeypatch):
    """Name of a tiny model that lies in the user's cache."""
    from accelsim.workload.model import release

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "accelsim" / "models"
    folder.mkdir(parents=True)
    tiny.write(folder / release.RELEASES["smollm2"].file_name)
    return "smollm2"


@pytest.fixture
def text(installed, tmp_path):
    """File of TEXT, beside the model in the cache."""
    path = tmp_path / "t.txt"
    path.write_text(TEXT)
    return path
