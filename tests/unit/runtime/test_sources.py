"""Digests of sources: what changes them, and what does not."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from accelsim.kernels import registry
from accelsim.kernels.attention.flash.flash import Flash
from accelsim.runtime import sources
from accelsim.runtime.sources import PACKAGE, class_digest, deciding, package_digest, source_digest
from tests.unit.test_layers import imports_of

CODE = '''\
"""A module."""

RATE = 2  # per cycle


def cycles(count):
    """Return the cycles."""
    return count // RATE


class Unit:
    """A unit."""

    width = 4
    """Lanes."""
'''


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("# per cycle", "# a cycle", True),
        ('"""A module."""', '"""Another text."""', True),
        ('"""Return the cycles."""', '"""Return them."""\n    # so it is', True),
        ('"""Lanes."""', "", True),
        ("\n\n\nclass", "\n\n\n\n\nclass", True),
        ("RATE = 2", "RATE = 3", False),
        ("count // RATE", "count / RATE", False),
        ("width = 4", 'width = "4"', False),
    ],
)
def test_only_what_runs_changes_the_digest(old: str, new: str, is_same: bool) -> None:
    changed = CODE.replace(old, new)
    assert changed != CODE
    assert (source_digest(changed.encode()) == source_digest(CODE.encode())) is is_same


def test_code_that_does_not_parse_has_the_digest_of_its_bytes() -> None:
    assert len({source_digest(b"def"), source_digest(b"def "), source_digest(b"\0")}) == 3


@pytest.mark.parametrize(
    ("name", "is_same"),
    [
        ("numerics/rounding.py", False),
        ("power.py", False),
        ("library/rules.yaml", False),
        ("sweeps/store.py", True),
        ("cli/run.py", True),
        ("runtime/workers.py", True),
        ("_data/machines/edge-npu.yaml", True),
        ("numerics/__pycache__/rounding.pyc", True),
    ],
)
def test_a_package_is_the_files_that_can_move_a_number(
    tmp_path: Path, name: str, is_same: bool
) -> None:
    package = tmp_path / "package"
    for path in (name, "numerics/formats.py"):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(CODE)
    before = [package_digest(package) for _ in range(2)]
    (package / name).write_text(CODE.replace("// RATE", "/ RATE"))
    assert before[0] == before[1]
    assert (package_digest(package) == before[0]) is is_same


def test_a_docstring_in_accelsim_is_the_same_accelsim(tmp_path: Path) -> None:
    package = tmp_path / "accelsim"
    for folder in ("engine", "accounts"):
        shutil.copytree(PACKAGE / folder, package / folder)
    area = package / "accounts" / "area.py"
    found = [package_digest(package)]
    for old, new in (("Die area by component", "Area"), ("machine.cores * area", "2 * area")):
        text = area.read_text()
        assert old in text
        area.write_text(text.replace(old, new))
        found.append(package_digest(package))
    assert found[0] == found[1] != found[2]


def test_a_library_that_computes_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = package_digest(tmp_path)
    monkeypatch.setattr(sources, "version", lambda name: "99.9")
    assert package_digest(tmp_path) != before


def test_a_cache_that_cannot_be_written_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.py").write_text(CODE)
    before = package_digest(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").rename(tmp_path.parent / "file-aside")
    (tmp_path / "cache").rename(tmp_path.parent / "cache-aside")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "file-aside"))
    assert package_digest(tmp_path) == before


def test_all_that_a_simulation_imports_is_part_of_it() -> None:
    """Whatever file of accelsim a simulation may run, at once or later, is among the deciding."""
    waiting, reached = ["accelsim.simulation"], set[Path]()
    while waiting:
        path = _file_of(waiting.pop())
        if path is not None and path not in reached:
            reached.add(path)
            waiting += [name for name in imports_of(path) if name.startswith("accelsim.")]
    aside = {PACKAGE / name for name in ("runtime/interruption.py",)}
    assert len(reached) > 100
    assert reached - set(deciding(PACKAGE)) <= aside


def _file_of(name: str) -> Path | None:
    parts = name.split(".")[1:]
    for end in (len(parts), len(parts) - 1):
        stem = PACKAGE.joinpath(*parts[:end])
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def write_module(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    importlib.invalidate_caches()


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns the digest of class Own of the module `own`, imported afresh."""
    folder = tmp_path / "users"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def digest() -> str:
        for name in [each for each in sys.modules if each.split(".")[0] in ("own", "help", "part")]:
            del sys.modules[name]
        return class_digest(importlib.import_module("own").Own)

    yield digest
    for name in [each for each in sys.modules if each.split(".")[0] in ("own", "help", "part")]:
        del sys.modules[name]


OWN = """\
import json
import numpy
from help import twice
from part import deep

class Own:
    x = 1
"""


def test_a_users_class_is_its_module_and_what_that_imports(tmp_path: Path, digest_of) -> None:
    users = tmp_path / "users"
    write_module(users, "own", OWN)
    write_module(users, "help", "def twice(x):\n    return 2 * x\n")
    write_module(users / "part", "__init__", "")
    write_module(users / "part", "deep", "from .deeper import y\n")
    write_module(users / "part", "deeper", "y = 1\n")
    write_module(users, "unrelated", "z = 1\n")
    found = [digest_of()]
    write_module(users, "unrelated", "z = 2\n")
    write_module(users, "own", OWN.replace("class Own:", 'class Own:\n    """Text."""'))
    assert digest_of() == found[0]
    for folder, name, text in (
        (users, "own", OWN.replace("x = 1", "x = 2")),
        (users, "help", "def twice(x):\n    return x + x\n"),
        (users / "part", "deeper", "y = 2\n"),
    ):
        write_module(folder, name, text)
        found.append(digest_of())
    assert len(set(found)) == 4


def test_classes_of_accelsim_have_no_digest_of_their_own() -> None:
    assert class_digest(Flash) == ""


def test_a_class_without_a_file_is_never_the_same_twice() -> None:
    found = [class_digest(type("Own", (), {"__module__": "nowhere"})) for _ in range(2)]
    assert all(found)
    assert found[0] != found[1]


WHOLE = "class Own:\n    name = 'own'\n    summary = problem_kind = parameters = None\n"


def test_a_registered_kernel_is_known_by_its_source_when_it_was_registered(
    tmp_path: Path, digest_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is edited afterwards is not what the process runs."""
    users = tmp_path / "users"
    write_module(users, "own", WHOLE)
    monkeypatch.setattr(registry, "_KERNELS", {})
    own = importlib.import_module("own").Own
    registry.register(own)
    write_module(users, "own", WHOLE + "    more = 1\n")
    before = class_digest(own)
    assert digest_of() != before


def test_a_source_that_is_younger_than_the_process_is_noticed(monkeypatch):
    newest = max(path.stat().st_ctime_ns for path in sources.deciding(sources.PACKAGE))
    for started_ns, is_as_digested in ((newest + 10**9, True), (newest, False), (0, False)):
        monkeypatch.setattr(sources, "STARTED_NS", started_ns)
        sources._is_older_than_process.cache_clear()
        assert sources.is_as_digested() is is_as_digested
    sources._is_older_than_process.cache_clear()
