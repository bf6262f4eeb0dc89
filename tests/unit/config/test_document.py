"""Text to data: what YAML may say, where its keys stand, and what is refused with which words."""

import math

import pytest

from accelsim.config.document import MAX_DEPTH, Document, dotted, parse
from accelsim.errors import ConfigError


def read(text: str) -> Document:
    return parse(text, lambda line, column: f"m.yaml:{line}:{column}: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512 KiB", "512 KiB"),
        ("16", 16),
        ("-1_000", -1000),
        ("010", 10),
        ("12:30", "12:30"),
        ("1e9", 1e9),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("yes", "yes"),
        ("on", "on"),
        ("~", None),
        ("", None),
        ("'16'", "16"),
        ("2026-01-01", "2026-01-01"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("0x10", "0x10"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    assert read(f"key: {text}").value == {"key": value}


def test_not_a_number_is_read_as_such():
    assert math.isnan(read("key: .nan").value["key"])


def test_every_key_knows_its_place():
    document = read("a: 1\nb:\n  c: 2\n  d: [x, y]\n")
    assert document.message(("b", "c"), "wrong") == "m.yaml:3:3: b.c: wrong"
    assert document.message(("b", "d", 1), "wrong") == "m.yaml:4:10: b.d[1]: wrong"


def test_a_missing_key_is_reported_where_its_section_stands():
    assert read("a: 1\nb:\n  c: 2\n").message(("b", "e"), "missing") == "m.yaml:2:1: b.e: missing"
    assert read("a: 1\n").message((), "wrong") == "m.yaml:1:1: wrong"


def test_a_path_is_written_with_dots_and_positions():
    assert dotted(("axes", 0, "values", 2)) == "axes[0].values[2]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a: &x [1]\n",
            "m.yaml:1:4: found '&x'; anchors and aliases are not allowed, write the value out",
        ),
        (
            "a: *x\n",
            "m.yaml:1:4: found '*x'; anchors and aliases are not allowed, write the value out",
        ),
        (
            "a: !!python/object:os.system ls\n",
            "m.yaml:1:4: found the tag 'tag:yaml.org,2002:python/object:os.system'; "
            "tags are not allowed",
        ),
        ("a:\n\tb: 1\n", "m.yaml:2:1: not valid YAML: found character that cannot start any token"),
        ("a: [1\n", "m.yaml:2:1: not valid YAML: did not find expected ',' or ']'"),
        ("\x00\x01", "m.yaml:1:1: not valid YAML: a character is not text"),
        ("a: \ud800", "m.yaml:1:1: not valid YAML: a character is not text"),
        ("a: 1\n---\nb: 2\n", "m.yaml:2:1: found a second document, expected one"),
        ("[a, b]: 1\n", "m.yaml:1:1: found a mapping or a list as a key, expected a name"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text, message):
    with pytest.raises(ConfigError) as refusal:
        read(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize("bracket", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused_before_it_costs_anything(bracket):
    with pytest.raises(ConfigError, match=f"nested deeper than the {MAX_DEPTH} levels allowed$"):
        read(bracket * 100_000)


def test_billion_laughs_are_refused():
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    with pytest.raises(ConfigError, match=r"^m.yaml:1:5: found '&a0'; anchors and aliases are not"):
        read("\n".join(lines))


def test_a_repeated_key_is_a_mistake_beside_the_others():
    document = read("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert document.mistakes == (
        "m.yaml:2:11: b.c: the key appears twice, first at m.yaml:2:5",
        "m.yaml:3:1: a: the key appears twice, first at m.yaml:1:1",
    )


def test_overrides_replace_and_add_without_touching_the_original():
    original = read("a: {b: 1, c: 2}\n")
    changed = original.with_overrides({"a.b": "512 KiB", "d.e": "[1, x]", "a.c": 5}, "--set ")
    assert changed.value == {"a": {"b": "512 KiB", "c": 5}, "d": {"e": [1, "x"]}}
    assert original.value == {"a": {"b": 1, "c": 2}}


def test_a_mistake_in_an_override_names_the_override():
    document = read("a: {b: {c: 1}}\n").with_overrides({"a.b": "{c: 2, d: 3}"}, "--set machine.")
    assert document.message(("a", "b", "c"), "wrong") == "--set machine.a.b.c: wrong"
    assert document.message(("a",), "wrong") == "m.yaml:1:1: a: wrong"


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("a.b", "1", "--set machine.a.b: 'a' is a value without keys of its own"),
        (
            "a",
            "[1",
            "--set machine.a: not valid YAML: did not find expected ',' or ']'",
        ),
        (
            "a",
            "*x",
            "--set machine.a: found '*x'; anchors and aliases are not allowed, write the value out",
        ),
    ],
)
def test_an_override_that_cannot_be_read_is_refused(key, text, message):
    with pytest.raises(ConfigError) as refusal:
        read("a: 1\n").with_overrides({key: text}, "--set machine.")
    assert str(refusal.value) == message
