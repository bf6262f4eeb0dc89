"""Kernels named by a file or brought by an installed package, and what is wrong with them."""

import os
import sys
from importlib.metadata import EntryPoint

import pytest

from accelsim import language
from accelsim.errors import ConfigError, UnknownNameError
from accelsim.kernels import outside, registry
from accelsim.kernels.base import Kernel
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.recipe import Recipe
from accelsim.program import language as ops
from accelsim.simulation import simulate
from accelsim.sweeps.run import sweep

WHOLE = """
from helper_of_a_file import SUMMARY
from accelsim.kernels.base import Kernel
from accelsim.kernels.linear.gemm import Gemm


class Mine(Gemm):
    name = "mine"
    summary = SUMMARY


class Partial(Kernel):
    name = "partial"
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch, tmp_path):
    """Registered kernels and modules of the files of one test are gone in the next."""
    monkeypatch.setattr(registry, "_KERNELS", dict(registry._KERNELS))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    outside._module_of.cache_clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def file(tmp_path):
    (tmp_path / "helper_of_a_file.py").write_text('SUMMARY = "a product"\n')
    path = tmp_path / "kernels_of_a_file.py"
    path.write_text(WHOLE)
    return path


def test_a_kernel_is_found_in_its_file_with_what_lies_beside_it(file):
    kernel = get_kernel(f"{file}:Mine")
    assert issubclass(kernel, Gemm)
    assert kernel.summary == "a product"
    assert get_kernel(f"{file}:Mine") is kernel
    report = simulate("edge-npu", "gemm-1024", f"{file}:Mine(tile_m=64)")
    assert report.cycles == simulate("edge-npu", "gemm-1024", "gemm(tile_m=64)").cycles


def test_a_recipe_of_a_file_is_read_as_it_is_written(file):
    recipe = Recipe.parse(f"{file}:Mine(tile_m=64)")
    assert recipe == Recipe(f"{file}:Mine", tile_m=64)
    assert Recipe.parse(str(recipe)) == recipe


def test_a_file_of_the_name_of_a_module_is_another_module(tmp_path):
    path = tmp_path / "json.py"
    path.write_text(WHOLE.replace("helper_of_a_file", "os").replace("SUMMARY", "sep"))
    assert get_kernel(f"{path}:Mine").summary == os.sep
    assert sys.modules["json"].loads("1") == 1


def test_two_files_of_one_name_are_two_modules(file, tmp_path):
    first = get_kernel(f"{file}:Mine")
    (tmp_path / "other").mkdir()
    copy = tmp_path / "other" / file.name
    copy.write_text(WHOLE)
    assert get_kernel(f"{copy}:Mine") is not first


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}/none.py:Mine", "found no file {folder}/none.py; allowed: path/to/file.py:Class"),
        (
            "{file}:Mien",
            "found no kernel 'Mien' in {file}, did you mean 'Mine'? allowed: Mine",
        ),
        ("{file}:Gem", "found no kernel 'Gem' in {file}, allowed: Mine, Partial"),
        ("{file}:SUMMARY", "found no kernel 'SUMMARY' in {file}"),
        ("{file}:Partial", "Partial has no summary, problem_kind, parameters, oracle, record; a"),
        ("{file}:", "found no kernel '' in {file}"),
    ],
)
def test_what_is_no_kernel_of_a_file_is_told(file, name, message):
    places = {"folder": file.parent, "file": file}
    with pytest.raises(ConfigError) as caught:
        get_kernel(name.format(**places))
    assert message.format(**places) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise ValueError('no luck')\n", ":2: ValueError: no luck"),
        ("x = (\n", ":1: SyntaxError: '(' was never closed"),
        ("import nothing_of_this_name\n", ":1: ModuleNotFoundError: No module named"),
        ("", "allowed: a subclass of accelsim.language.Kernel"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_with_its_line(tmp_path, text, message):
    path = tmp_path / "broken_file.py"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        get_kernel(f"{path}:Mine")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_sweep_takes_a_kernel_of_a_file_beside_it(file, tmp_path):
    text = "name: own\nmachine: edge-npu\nworkloads: [gemm-1024]\n"
    text += 'kernels: ["kernels_of_a_file.py:Mine(tile_n=64)", "gemm(tile_n=64)"]\n'
    (tmp_path / "sweep.yaml").write_text(text)
    frame = sweep(tmp_path / "sweep.yaml", tmp_path / "out", workers=1).to_frame()
    assert frame["cycles"].nunique() == 1
    assert len(frame) == 2


def entry(name, value):
    return EntryPoint(name=name, value=value, group=outside.GROUP)


@pytest.fixture
def packaged(file, monkeypatch):
    monkeypatch.syspath_prepend(str(file.parent))
    found = {
        each.name: each
        for each in (
            entry("mine", "kernels_of_a_file:Mine"),
            entry("partial", "kernels_of_a_file:Partial"),
            entry("misnamed", "kernels_of_a_file:Mine"),
            entry("gone", "no_such_package:Mine"),
        )
    }
    monkeypatch.setattr(registry, "packaged_kernels", lambda: found)


@pytest.mark.usefixtures("packaged")
def test_kernels_of_installed_packages_have_names():
    assert kernel_names()[-4:] == ["mine", "partial", "misnamed", "gone"]
    assert get_kernel("mine").summary == "a product"
    assert get_kernel("mine") is get_kernel("mine")


@pytest.mark.usefixtures("packaged")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("partial", "kernel 'partial' of kernels_of_a_file:Partial: Partial has no summary"),
        ("misnamed", "found kernels_of_a_file:Mine; allowed: a kernel whose name is 'misnamed'"),
        ("gone", "no_such_package:Mine cannot be imported: ModuleNotFoundError: No module"),
    ],
)
def test_what_is_wrong_with_a_package_is_told(name, message):
    with pytest.raises(ConfigError) as caught:
        get_kernel(name)
    assert message in str(caught.value)


@pytest.mark.usefixtures("packaged")
def test_an_unknown_name_is_told_with_those_of_packages():
    with pytest.raises(UnknownNameError, match="did you mean 'mine'"):
        get_kernel("mines")


def test_only_whole_kernels_are_registered():
    with pytest.raises(ConfigError, match="Half has no name, summary"):

        @registry.register
        class Half(Kernel):
            pass


def test_the_facade_has_the_whole_language():
    assert set(ops.__all__) <= set(language.__all__)
    assert all(getattr(language, name) is getattr(ops, name) for name in ops.__all__)
