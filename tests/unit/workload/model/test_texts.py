"""Texts by their kinds and from files."""

import hashlib
from importlib.resources import files

import pytest

from accelsim.errors import AccelsimError
from accelsim.workload.model.texts import CALIBRATED_KINDS, DEFAULT_KIND, KINDS, read_texts

FEWEST_CHARACTERS = 60_000
"""About 14,000 tokens: what is evaluated, and 4 windows after the first 8,192 tokens."""
MOST_BYTES = 80_000
"""What a text may add to the package."""
DIGESTS = {
    "reference": "07d025a1d456e01aa259695ba8c9750eb3378d3156d42e254c3807af8554de55",
    "code": "2d05af860b01014f4c9f2f4c052a01c9c6012ae338202faff5d20a287674d6c7",
    "novel": "4a3d0a96662d6d053f70908148ad327275ca19394c817d2b46155b1135c449f7",
    "legal": "f8f9c3faa83e08254a13f568ab57351c9da22b9007823d16ea036b60267d4337",
    "manual": "f289ebbf1d26bd031fd7145489e6f257ae231099f58017052aee639a1c53039d",
    "play": "c117370165b5eced2012fd60a35e91270ff287418bb410a021e0f99c641a4ca0",
    "science": "4641dd1e917586233a8bb73751bd9859cd22716b5c78d3b2104ea9472113eac2",
    "c": "86c5536bc66dab59ea9b0c508ef42fb8ac4c31f7874104f6377a5339ef81981f",
}
"""What was measured on a text is worth nothing if the text changes."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_long_and_never_changes(kind):
    (text,) = read_texts(kind)
    assert text.name == kind
    assert len(text.content) > FEWEST_CHARACTERS
    assert len(text.content.encode()) <= MOST_BYTES
    assert text.sha256 == hashlib.sha256(text.content.encode()).hexdigest() == DIGESTS[kind]


def test_every_text_that_ships_is_a_kind_and_its_origin_is_told():
    folder = files("accelsim.workload") / "texts"
    shipped = {each.name for each in folder.iterdir() if each.name != "NOTICE"}
    assert shipped == {f"{kind}.txt" for kind in KINDS}
    notice = (folder / "NOTICE").read_text(encoding="utf-8")
    for name in shipped:
        assert f"\n{name}  " in notice, name


def test_kinds_are_what_they_are_named():
    texts = {text.name: text.content for text in read_texts("all")}
    assert list(texts) == list(KINDS)
    marks = {
        "reference": "expression",
        "code": "def __init__(self",
        "novel": '"My dear Mr. Bennet,"',
        "legal": "Licensor",
        "manual": "png_read_info",
        "play": "ROSALIND\t",
        "science": "Refrangibility of the Rays",
        "c": "static BROTLI_INLINE",
    }
    for kind, mark in marks.items():
        assert mark in texts[kind], kind


def test_what_is_read_by_default_is_calibrated_on_and_others_are_not():
    assert DEFAULT_KIND in CALIBRATED_KINDS
    assert {"legal", "manual", "play", "science", "c"} <= set(KINDS) - set(CALIBRATED_KINDS)


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
    allowed = "reference, code, novel, legal, manual, play, science, c"
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
