"""Recipes: what is written is what is read, and what is wrong is said."""

import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accelsim
from accelsim.errors import AccelsimError
from accelsim.library.recipe import Recipe, split_recipes
from accelsim.numerics.formats import Format

HARD = "()[]{}'\",:=#&*!|>%@`\\ \t\n-?~_/.0123456789eExnultrfasino\x00\x85\ufeff😀é٣"
texts = st.text() | st.text(HARD) | st.sampled_from(["null", "true", "1", "1e5", ".nan", "~", ""])
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
keys = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True)
recipes = st.builds(
    lambda kernel, settings: Recipe(kernel, **settings),
    st.sampled_from(["flash", "gemm", "my_kernel"]),
    st.dictionaries(keys, values, max_size=4),
)
HINT = (
    "; allowed: a kernel, such as flash(tile_q=128); "
    "in a YAML list, put quotes around what has brackets"
)


@given(recipes)
def test_what_is_written_is_read_back(recipe):
    assert Recipe.parse(str(recipe)) == recipe
    assert eval(repr(recipe)) == recipe


@given(recipes)
def test_it_survives_pickling(recipe):
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@given(st.lists(recipes, min_size=1, max_size=4))
def test_a_list_is_split_between_its_recipes(several):
    text = ",".join(map(str, several))
    assert [Recipe.parse(part) for part in split_recipes(text)] == several


@given(st.text(HARD + "flashtile_q=(),") | texts)
def test_no_text_is_a_traceback(text):
    with suppress(AccelsimError):
        Recipe.parse(text)


@given(st.lists(keys, min_size=1, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_parameters_says_nothing(names, random):
    one = Recipe("flash", **{name: index for index, name in enumerate(names)})
    shuffled = [f"{name}={index}" for index, name in enumerate(names)]
    random.shuffle(shuffled)
    other = Recipe.parse(f"flash({', '.join(shuffled)})")
    assert (one, hash(one), str(one)) == (other, hash(other), str(other))


@pytest.mark.parametrize(
    ("text", "written", "settings"),
    [
        ("flash", "flash", {}),
        (" flash ( ) ", "flash", {}),
        ("flash(tile_q=128)", "flash(tile_q=128)", {"tile_q": 128}),
        ("flash( tile_q = 8,tile_k=16 )", "flash(tile_k=16, tile_q=8)", None),
        ("sift(tau=0.75)", "sift(tau=0.75)", {"tau": 0.75}),
        ("a(x=1e-3)", "a(x=0.001)", {"x": 0.001}),
        ("a(x=true, y=null, z=~)", "a(x=true, y=null, z=null)", {"x": True, "y": None, "z": None}),
        ("a(x=yes)", "a(x=yes)", {"x": "yes"}),
        ("a(x='8')", 'a(x="8")', {"x": "8"}),
        ("a(x=data/masks-1.npz)", "a(x=data/masks-1.npz)", {"x": "data/masks-1.npz"}),
        ("a(x='b (1), c')", 'a(x="b (1), c")', {"x": "b (1), c"}),
        ("a(x='it''s, y', z=1)", 'a(x="it\'s, y", z=1)', {"x": "it's, y", "z": 1}),
        ("a(x=it's, z=1)", 'a(x="it\'s", z=1)', {"x": "it's", "z": 1}),
        ('a(x="\\"," )', 'a(x="\\",")', {"x": '",'}),
        ("a(x=[1, [b, 'c, d']])", 'a(x=[1, [b, "c, d"]])', {"x": (1, ("b", "c, d"))}),
        ("a(x=b)c)", 'a(x="b)c")', {"x": "b)c"}),
    ],
)  # fmt: skip
def test_the_spelling(text, written, settings):
    recipe = Recipe.parse(text)
    assert str(recipe) == written
    assert settings is None or recipe.settings == settings


def test_values_of_other_libraries_become_plain():
    recipe = Recipe("a", n=np.int64(3), x=np.float32(0.5), path=Path("b/c"), fmt=Format.FP16)
    assert recipe == Recipe("a", n=3, x=0.5, path="b/c", fmt="fp16")
    assert {type(value) for value in recipe.settings.values()} == {int, float, str}


def test_values_of_different_types_are_different():
    assert len({Recipe("a", x=value) for value in (1, 1.0, True, "1", (1,))}) == 5


def test_a_list_that_changes_later_does_not_change_it():
    values = [1, 2]
    recipe = Recipe("a", x=values)
    values.append(3)
    assert recipe.settings == {"x": (1, 2)}
    with pytest.raises(AttributeError):
        recipe.kernel = "b"


def test_it_is_no_other_thing():
    assert Recipe("flash") != "flash"
    assert Recipe.of("flash(tile_q=8)") == Recipe.of(Recipe("flash", tile_q=8))


def test_settings_are_replaced_or_added():
    recipe = Recipe("flash", tile_q=8, tile_k=16)
    assert str(recipe.updated({"tile_q": 4, "order": "by_head"})) == (
        "flash(order=by_head, tile_k=16, tile_q=4)"
    )
    assert recipe == Recipe("flash", tile_q=8, tile_k=16)


def test_code_is_for_the_library_and_no_parameter():
    recipe = Recipe("flash", tile_q=8, code="warps")
    assert recipe.code == "warps"
    assert recipe.parameters() == Recipe("flash", tile_q=8).parameters()
    assert Recipe("flash").code == ""


def test_parameters_are_read_as_they_are_written():
    assert Recipe("flash", tile_q=8).parameters().tile_q == 8
    assert Recipe("sparse", mask="file", path="null").parameters().path == Path("null")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe '': found no name of a kernel" + HINT),
        ("(a=1)", "recipe '(a=1)': found no name of a kernel" + HINT),
        ("flash)", "recipe 'flash)': found no name of a kernel" + HINT),
        ("flash(", "recipe 'flash(': found no closing bracket" + HINT),
        ("flash(a=1) b", "recipe 'flash(a=1) b': found no closing bracket" + HINT),
        ("flash(a)", "recipe 'flash(a)': found 'a' where key=value is expected" + HINT),
        ("flash(a=)", "recipe 'flash(a=)': found 'a=' where key=value is expected" + HINT),
        ("flash(a=1,)", "recipe 'flash(a=1,)': found '' where key=value is expected" + HINT),
        ("flash(a b=1)", "recipe 'flash(a b=1)': found 'a b=1' where key=value is expected" + HINT),
        ("flash(a=1, a=2)", "recipe 'flash(a=1, a=2)': found 'a' twice" + HINT),
        (
            "flash(a=[1)",
            "recipe 'flash(a=[1)': a: not valid YAML: did not find expected ',' or ']'",
        ),
        (
            "flash(a=*b)",
            "recipe 'flash(a=*b)': a: found '*b'; anchors and aliases are not allowed, write the "
            "value out",
        ),
        (
            "flash(a={b: 1})",
            "recipe of flash: a: found a mapping; "
            "allowed: a number, a text, true, false, null or a list of them",
        ),
    ],
)
def test_what_is_no_recipe(text, message):
    with pytest.raises(AccelsimError) as found:
        Recipe.parse(text)
    assert str(found.value) == message


@pytest.mark.parametrize("value", [{}, b"x", 1j, object, {1, 2}])
def test_values_that_nobody_could_write(value):
    with pytest.raises(AccelsimError) as found:
        Recipe("flash", a=value)
    assert str(found.value).startswith("recipe of flash: a: found ")
    assert str(found.value).endswith(
        "; allowed: a number, a text, true, false, null or a list of them"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flash(tile_q=0)", "flash: tile_q: found 0, expected a value greater than 0"),
        ("flash(tile_q='8')", "flash: tile_q: found '8', expected a valid integer"),
        (
            "sparse(strides=[1, x])",
            "sparse: strides: unknown key, did you mean 'stride'?; allowed: mask, ",
        ),
        ("flsh", "unknown kernel 'flsh', did you mean 'flash'?; known: "),
    ],
)
def test_parameters_that_are_not_allowed(text, message):
    with pytest.raises(AccelsimError) as found:
        Recipe.parse(text).parameters()
    assert str(found.value).startswith(message)


def test_it_is_a_public_name():
    assert accelsim.Recipe is Recipe
