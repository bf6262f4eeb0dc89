"""Compiled code on disk is never stale, made again where it is torn, and made once by many."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from accelsim.runtime.closure import UnknownDependencyError, closure_digest

ROOT = Path(__file__).parents[3]
HELPER = '''
"""Helpers."""
from accelsim.runtime.jit import jit_inner
SCALE = 2.0

@jit_inner
def scaled(x):
    """Scale."""
    return SCALE * x
'''
KERNEL = """
from typing import NamedTuple
import constants
import helper
from accelsim.runtime.jit import jit

class Pair(NamedTuple):
    first: float
    second: float

@jit
def run(pair):
    return helper.scaled(pair.first) + constants.OFFSET
"""
MAIN = """
import sys
from accelsim.runtime.jit import compilation_reported
import kernel
compiled = []
with compilation_reported(lambda: compiled.append(1)):
    value = kernel.run(kernel.Pair(first=10.0, second=100.0))
print(value, len(compiled))
"""
FILES = {
    "helper.py": HELPER,
    "constants.py": "OFFSET = 1.0\n",
    "kernel.py": KERNEL,
    "main.py": MAIN,
}


class Folder:
    """Modules that meet in compiled code, and a cache of their own."""

    def __init__(self, path):
        self.path = path
        for name, text in FILES.items():
            (path / name).write_text(text)

    def edit(self, name, old, new):
        text = (self.path / name).read_text()
        assert old in text
        (self.path / name).write_text(text.replace(old, new))

    def start(self):
        environment = os.environ | {
            "XDG_CACHE_HOME": str(self.path / "cache"),
            "PYTHONPATH": f"{self.path}{os.pathsep}{ROOT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, self.path / "main.py"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def run(self):
        return self.result(self.start())

    @staticmethod
    def result(process):
        """Return the value and the functions that were compiled for it."""
        printed, _ = process.communicate()
        assert process.returncode == 0
        value, compiled = printed.split()
        return float(value), int(compiled)

    @property
    def code(self):
        return sorted((self.path / "cache").rglob("*.code"))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_code_is_compiled_once(folder):
    assert folder.run() == (21.0, 2)
    assert folder.run() == (21.0, 0)
    assert [path.suffix for path in (folder.path / "cache/accelsim/jit").iterdir()] == [".code"] * 2


@pytest.mark.parametrize(
    ("file", "old", "new", "value"),
    [
        ("helper.py", "SCALE * x", "SCALE * x + 3", 24.0),
        ("helper.py", "SCALE = 2.0", "SCALE = 4.0", 41.0),
        ("constants.py", "1.0", "5.0", 25.0),
        ("kernel.py", "first: float\n    second", "second: float\n    first", 21.0),
        ("kernel.py", "pair.first", "pair.second", 201.0),
    ],
)
def test_an_edit_of_whatever_code_bakes_in_is_noticed(folder, file, old, new, value):
    folder.run()
    folder.edit(file, old, new)
    found, compiled = folder.run()
    assert found == value
    assert compiled > 0


def test_code_that_is_given_a_function_is_found_again(folder):
    """The text of its type has the address of the function, which no other process has."""
    called = "@jit\ndef called(function, x):\n    return function(x)\n\n@jit\ndef run"
    folder.edit("kernel.py", "@jit\ndef run", called)
    folder.edit(
        "main.py",
        "kernel.run(kernel.Pair(first=10.0, second=100.0))",
        "kernel.called(kernel.helper.scaled, 10.0)",
    )
    assert folder.run() == (20.0, 2)
    assert folder.run() == (20.0, 0)
    folder.edit("helper.py", "SCALE = 2.0", "SCALE = 3.0")
    assert folder.run() == (30.0, 2)


def test_a_docstring_a_comment_and_a_new_function_compile_nothing(folder):
    folder.run()
    folder.edit("helper.py", '"""Scale."""', '"""Multiply by the scale."""\n    # as said')
    folder.edit("kernel.py", "@jit\n", "def other():\n    return 3\n\n@jit\n")
    assert folder.run() == (21.0, 0)


def test_another_folder_with_the_same_code_compiles_nothing(folder, tmp_path):
    folder.run()
    other = tmp_path / "other"
    other.mkdir()
    moved = Folder(other)
    (tmp_path / "cache").rename(other / "cache")
    assert moved.run() == (21.0, 0)


@pytest.mark.parametrize(
    "tear", [lambda data: b"", lambda data: data[:-7], lambda data: b"x" * 900]
)
def test_a_torn_file_is_made_again(folder, tear):
    folder.run()
    for path in folder.code:
        path.write_bytes(tear(path.read_bytes()))
    assert folder.run() == (21.0, 2)
    assert folder.run() == (21.0, 0)


def test_processes_that_start_at_once_share_the_work(folder):
    processes = [folder.start() for _ in range(4)]
    results = [folder.result(process) for process in processes]
    assert {value for value, _ in results} == {21.0}
    assert sum(compiled for _, compiled in results) == 2


def test_what_fails_to_compile_leaves_no_lock(folder):
    folder.edit("kernel.py", "+ constants.OFFSET", "+ constants.MISSING")
    process = folder.start()
    process.communicate()
    assert process.returncode != 0
    folder.edit("kernel.py", "constants.MISSING", "constants.OFFSET")
    assert folder.run()[0] == 21.0
    assert not list((folder.path / "cache").rglob("*.lock"))


def test_a_lock_that_a_killed_process_left_stops_nobody(folder):
    folder.run()
    for path in folder.code:
        path.rename(path.with_suffix(".lock"))
    assert folder.run() == (21.0, 2)


def test_the_digest_follows_calls_of_compiled_functions():
    """The shipped code that was stale before: a constant of `quantization` in a kernel."""
    from accelsim.kernels.integer import encoding
    from accelsim.quantization import codes as constants

    function = next(
        each.py_func
        for each in vars(encoding).values()
        if "SMALLEST_SCALE" in getattr(getattr(each, "py_func", None), "__code__", _NONE).co_names
    )
    before = closure_digest(function)
    own = {**function.__globals__, "SMALLEST_SCALE": 0.5}
    changed = type(function)(function.__code__, own, function.__name__)
    changed.__module__, changed.__qualname__ = function.__module__, function.__qualname__
    assert constants.SMALLEST_SCALE != 0.5
    assert closure_digest(changed) != before


class _NONE:
    co_names = ()


_OPAQUE = object()


def test_a_constant_without_a_hash_is_refused():
    def reads():
        return _OPAQUE

    with pytest.raises(UnknownDependencyError, match="of type object"):
        closure_digest(reads)


def test_functions_that_call_each_other_have_a_digest():
    assert closure_digest(_even) != closure_digest(_odd)


def _even(n):
    return n == 0 or _odd(n - 1)


def _odd(n):
    return n != 0 and _even(n - 1)
