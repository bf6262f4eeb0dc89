import pytest

from accelsim.errors import WorkloadError
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.tokenizer import Tokenizer


def message(tiny, tmp_path, key, value):
    tiny.metadata[key] = value
    path = tiny.write(tmp_path / "x.gguf")
    with pytest.raises(WorkloadError) as raised:
        Tokenizer(GgufFile(path))
    return str(raised.value).removeprefix(f"{path}: ")


def test_merges_apply_and_digits_stay_single(tiny, tiny_path):
    tokens = tiny.metadata["tokenizer.ggml.tokens"]
    ids = Tokenizer(GgufFile(tiny_path)).encode("hello world 12")
    assert [tokens[each] for each in ids] == (
        ["hello", "\u0120w", "o", "r", "l", "d", "\u0120", "1", "2"]
    )


def test_every_text_can_be_encoded(tiny_path):
    assert len(Tokenizer(GgufFile(tiny_path)).encode("\u20ac\n\x00")) == 5


def test_another_tokenizer(tiny, tmp_path):
    assert message(tiny, tmp_path, "tokenizer.ggml.pre", "qwen2") == (
        "metadata 'tokenizer.ggml.pre' is 'qwen2', allowed: smollm"
    )


def test_a_token_twice(tiny, tmp_path):
    assert message(tiny, tmp_path, "tokenizer.ggml.tokens", ["a", "b", "a"]) == (
        "the vocabulary is not a list of different texts"
    )


@pytest.mark.parametrize("merge", ["h x\u20ac", "he", "l l l"])
def test_a_merge_of_unknown_tokens(tiny, tmp_path, merge):
    assert message(tiny, tmp_path, "tokenizer.ggml.merges", ["h e", merge]) == (
        f"merge '{merge}' is not made of tokens"
    )
