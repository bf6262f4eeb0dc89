"""Texts by their kinds and from files."""

import hashlib

import pytest

from accelsim.errors import AccelsimError
from accelsim.workload.model.texts import CALIBRATED_KINDS, DEFAULT_KIND, KINDS, read_texts

FEWEST_CHARACTERS = 60_000
"""About 14,000 tokens: what is evaluated, and 4 windows after the first 8,192 tokens."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_long_and_has_its_digest(kind):
    (text,) = read_texts(kind)
    assert text.name == kind
    assert len(text.content) > FEWEST_CHARACTERS
    assert text.sha256 == hashlib.sha256(text.content.encode()).hexdigest()


def test_kinds_are_what_they_are_named():
    texts = {text.name: text.content for text in read_texts("all")}
    assert list(texts) == list(KINDS)
    marks = {
        "reference": "expression",
        "code": "def __init__(self",
        "novel": '"My dear Mr. Bennet,"',
        "legal": "Licensor",
        "manual": "png_read_info",
    }
    for kind, mark in marks.items():
        assert mark in texts[kind], kind


def test_what_is_read_by_default_is_calibrated_on_and_others_are_not():
    assert DEFAULT_KIND in CALIBRATED_KINDS
    assert {"legal", "manual"} <= set(KINDS) - set(CALIBRATED_KINDS)


def test_a_file_and_a_kind_together(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("hello")
    assert [text.name for text in read_texts([path, "legal"])] == [str(path), "legal"]


def test_a_file_named_as_a_kind_is_asked_for_by_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "legal").write_text("mine")
    assert read_texts("./legal")[0].content == "mine"
    assert read_texts("legal")[0].content != "mine"


def message(sources):
    with pytest.raises(AccelsimError) as raised:
        read_texts(sources)
    return str(raised.value)


def test_messages(tmp_path):
    path, copy = tmp_path / "a", tmp_path / "b"
    for each in (path, copy):
        each.write_text("same")
    allowed = "reference, code, novel, legal, manual"
    assert message([]) == f"found no text; allowed: {allowed}, or a file"
    assert message("legl") == (
        f"text legl: found no such kind and no such file; allowed: {allowed}, all, or a file of "
        "UTF-8 text"
    )
    assert message([path, copy]) == (
        f"text {copy}: found the text of {path} again; allowed: every text once"
    )
    assert message(["legal", "all"]) == (
        "text legal: found the text of legal again; allowed: every text once"
    )
    path.write_bytes(b"\xff")
    assert message(path).startswith(f"{path}: cannot be read as UTF-8 text")
