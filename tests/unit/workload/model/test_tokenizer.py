"""Token ids against those of llama.cpp, and what is refused."""

import json
from pathlib import Path

import pytest
import tokenizers

from accelsim.errors import WorkloadError
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.tokenizer import gguf_tokenizer, json_tokenizer
from tests.tiny_model import TEXT, TOKENS, byte_level_json
from tests.vocabularies import RULES, TEXTS, byte_level, sentence_pieces

RECORD = json.loads(Path(__file__).with_name("recorded_models.json").read_text())["ids"]


def message(tiny, tmp_path, **metadata):
    for key, value in metadata.items():
        tiny.metadata[f"tokenizer.ggml.{key}"] = value
    path = tiny.write(tmp_path / "x.gguf")
    with pytest.raises(WorkloadError) as raised:
        gguf_tokenizer(GgufFile(path))
    return str(raised.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("rule", RULES)
def test_byte_level_ids_are_those_of_llama_cpp(rule, tiny, tmp_path):
    file = GgufFile(byte_level(tiny, rule).write(tmp_path / "x.gguf"))
    tokenizer = gguf_tokenizer(file)
    assert [tokenizer.encode(text) for text in TEXTS] == RECORD[rule]["plain"]
    opened = RECORD[rule]["opened"]
    assert tokenizer.opened([*RECORD[rule]["plain"][0], 7])[: len(opened)] == opened


def test_rules_differ_on_these_texts():
    found = [RECORD[rule]["plain"] for rule in RULES]
    assert all(one != other for one in found for other in found if one is not other)


@pytest.mark.parametrize("prefix", [False, True])
def test_sentence_pieces_are_those_of_llama_cpp(prefix, tiny, tmp_path):
    record = RECORD["pieces_prefix" if prefix else "pieces"]
    file = GgufFile(sentence_pieces(tiny, prefix=prefix).write(tmp_path / "x.gguf"))
    tokenizer = gguf_tokenizer(file)
    assert [tokenizer.encode(text) for text in TEXTS] == record["plain"]
    assert tokenizer.opened([*record["plain"][0], 7]) == record["opened"]


def test_merges_apply_and_digits_stay_single(tiny_path):
    ids = gguf_tokenizer(GgufFile(tiny_path)).encode("hello world 12")
    assert [TOKENS[each] for each in ids] == (
        ["hello", "\u0120w", "o", "r", "l", "d", "\u0120", "1", "2"]
    )


def test_every_text_can_be_encoded(tiny_path):
    assert len(gguf_tokenizer(GgufFile(tiny_path)).encode("\u20ac\n\x00")) == 5


def test_a_text_is_opened_by_as_many_tokens_as_it_had(tiny, tmp_path):
    tiny.metadata |= {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 9}
    opens = gguf_tokenizer(GgufFile(tiny.write(tmp_path / "x.gguf")))
    assert opens.opened([1, 2, 3]) == [9, 1, 2]
    tiny.metadata["tokenizer.ggml.add_bos_token"] = False
    plain = gguf_tokenizer(GgufFile(tiny.write(tmp_path / "y.gguf")))
    assert plain.opened([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            {"model": "bert"},
            "metadata 'tokenizer.ggml.model' is 'bert', allowed: gpt2, llama",
        ),
        (
            {"pre": "deepseek-llm"},
            "metadata 'tokenizer.ggml.pre' is 'deepseek-llm', allowed: "
            "gpt-2, smollm, qwen2, llama-bpe, llama3, llama-v3",
        ),
        (
            {"add_bos_token": True},
            "metadata 'tokenizer.ggml.bos_token_id' is missing, expected int",
        ),
        (
            {"add_bos_token": True, "bos_token_id": 261},
            "metadata 'tokenizer.ggml.bos_token_id' is 261, allowed: the number of a token",
        ),
        (
            {"tokens": ["a", "b", "a"]},
            "the vocabulary is not a list of different texts",
        ),
        ({"merges": ["h e", "h x\u20ac"]}, "merge 'h x\u20ac' is not made of tokens"),
        ({"merges": ["h e", "he"]}, "merge 'he' is not made of tokens"),
        ({"merges": ["h e", "l l l"]}, "merge 'l l l' is not made of tokens"),
    ],
)
def test_a_mistake_is_named_by_its_key(tiny, tmp_path, metadata, text):
    assert message(tiny, tmp_path, **metadata) == text


def test_mistakes_of_sentence_pieces(tiny, tmp_path):
    pieces = sentence_pieces(tiny, prefix=True)
    number = len(pieces.metadata["tokenizer.ggml.tokens"])
    assert message(pieces, tmp_path, remove_extra_whitespaces=True) == (
        "metadata 'tokenizer.ggml.remove_extra_whitespaces' is true, allowed: false"
    )
    pieces.metadata["tokenizer.ggml.remove_extra_whitespaces"] = False
    assert message(pieces, tmp_path, scores=[0.5]) == (
        f"{number} tokens have 1 scores and {number} types, allowed: as many of each"
    )
    tokens = pieces.metadata["tokenizer.ggml.tokens"]
    tokens[tokens.index("<0x1F>")] = "other"
    assert message(pieces, tmp_path, scores=[0.0] * number) == (
        "the vocabulary has no token <0x1F>"
    )


def test_a_tokenizer_json_gives_the_same_ids(tiny_path, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(byte_level_json())
    assert json_tokenizer(path).encode(TEXT) == gguf_tokenizer(GgufFile(tiny_path)).encode(TEXT)
    assert json_tokenizer(path).opened([1, 2]) == [1, 2]


def test_a_tokenizer_json_says_what_opens_a_text(tmp_path):
    library = tokenizers.Tokenizer.from_str(byte_level_json())
    library.add_special_tokens(["<s>", "</s>"])
    first, last = (library.token_to_id(token) for token in ("<s>", "</s>"))
    path = tmp_path / "tokenizer.json"

    def written(template):
        library.post_processor = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", first), ("</s>", last)]
        )
        library.enable_truncation(2)
        library.enable_padding(length=8)
        path.write_text(library.to_str())
        return path

    opens = json_tokenizer(written("<s> $A"))
    assert opens.opened([1, 2]) == [first, 1]
    # A text is never cut or filled up, and what looks like a special token is text.
    assert len(opens.encode("<s> is text")) == 11
    with pytest.raises(WorkloadError) as raised:
        json_tokenizer(written("<s> $A </s>"))
    assert str(raised.value) == f"{path}: closes every text with a token, allowed: opening it"


def test_a_tokenizer_json_that_is_none(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(WorkloadError) as raised:
        json_tokenizer(path)
    assert str(raised.value).startswith(f"{path}: cannot be read ([Errno 2]")
    path.write_text("{}")
    with pytest.raises(WorkloadError) as raised:
        json_tokenizer(path)
    assert str(raised.value).startswith(f"{path}: not a tokenizer: ")
