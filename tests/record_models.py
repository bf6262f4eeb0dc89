"""Record what transformers and llama.cpp say of small models, for tests that need neither.

    python -m tests.record_models

Needs torch, transformers and xllamacpp (llama.cpp), which are no dependencies of accelsim; versions
are recorded too. Writes recorded_models.json.
"""

import json
import os
import tempfile
import urllib.request
from importlib.metadata import version
from pathlib import Path

from tests.checkpoints import (
    CONFIGS,
    IDS,
    RECORDED_STEP,
    SHORT_WINDOW,
    tensors_of,
    write_folder,
    write_gguf,
)
from tests.tiny_model import tiny_model
from tests.vocabularies import RULES, TEXTS, byte_level, sentence_pieces

RECORD = Path(__file__).parent / "unit" / "workload" / "model" / "recorded_models.json"


def main():
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        record = {
            "versions": {name: version(name) for name in ("torch", "transformers", "xllamacpp")},
            "logits": {name: logits(folder / name, config) for name, config in CONFIGS.items()},
            "short_window": log_probs(folder / "short.gguf", SHORT_WINDOW),
            "ids": {name: ids(path) for name, path in vocabulary_files(folder).items()},
        }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def logits(folder, config):
    """Return a selection of the last row of logits, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    write_folder(folder, config, tensors_of(config))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        row = model(torch.tensor([IDS])).logits[0, -1]
    return [round(float(each), 6) for each in row[::RECORDED_STEP]]


def vocabulary_files(folder):
    """Write and return a GGUF file for each kind of tokenizer."""
    models = {rule: byte_level(tiny_model(), rule) for rule in RULES}
    models |= {
        "pieces": sentence_pieces(tiny_model(), prefix=False),
        "pieces_prefix": sentence_pieces(tiny_model(), prefix=True),
    }
    return {name: model.write(folder / f"{name}.gguf") for name, model in models.items()}


def log_probs(path, config):
    """Return id -> log probability behind IDS, of the most likely tokens, by llama.cpp in FP32."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = served(write_gguf(path, config, tensors_of(config)), params, 128)
    asked = {"prompt": IDS, "n_predict": 1, "n_probs": 40, "temperature": 0}
    (said,) = answered(server, "completion", asked)["completion_probabilities"]
    return {str(each["id"]): round(each["logprob"], 6) for each in said["top_logprobs"]}


def served(path, params, context):
    """Return a server of a model."""
    import xllamacpp

    params.model.path, params.n_ctx, params.warmup = str(path), context, False
    return xllamacpp.Server(params)


def answered(server, what, body):
    """Return what a server says."""
    request = urllib.request.Request(
        f"{server.listening_address}/{what}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    return json.load(urllib.request.urlopen(request, timeout=60))


def ids(path):
    """Return the ids of every text, without the tokens that open or close it, and with them."""
    import xllamacpp

    server = served(path, xllamacpp.CommonParams(), 32)

    def tokens(text, adds):
        body = {"content": text, "add_special": adds, "parse_special": False}
        return answered(server, "tokenize", body)["tokens"]

    return {
        "plain": [tokens(text, False) for text in TEXTS],
        "opened": tokens(TEXTS[0], True),
    }


if __name__ == "__main__":
    main()
    os._exit(0)  # servers of llama.cpp end with the process
