"""Ctrl-C ends a command with one word, whatever it is doing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import accelsim

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(accelsim.__file__).parents[1])}

AT_IMPORT = """
import os, signal, sys

module, sys.argv[1:] = sys.argv[1], sys.argv[2:]

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

import accelsim.__main__
sys.meta_path.insert(0, Interrupter())
accelsim.__main__.main()
"""
"""A command that gets Ctrl-C when it imports a module."""


def run(program: str, *words: str, **options) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "accelsim.cli.streams",
        "accelsim.errors",
        "accelsim.cli.main",
        "typer",
        "rich.console",
        "accelsim.report.quantity",
        "pydantic",
        "accelsim.cli.validate",
        "accelsim.config.shipped",
        "accelsim.loading",
        "accelsim.hardware.machine",
    ],
)
def test_control_c_during_imports(module):
    assert run(AT_IMPORT, module, "machines") == (130, "", "\ninterrupted\n")


INSIDE = """
import os, signal
import accelsim.__main__
from accelsim.cli import listing

def interrupted(*_):
    {body}

listing._machine_cells = interrupted
import sys
sys.argv[1:] = ["machines"]
accelsim.__main__.main()
"""
"""A command that gets Ctrl-C in the middle of its work."""
SIGNAL = "os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    "body",
    [
        SIGNAL,
        f"""try:
        {SIGNAL}
    except BaseException:
        raise ImportError("a library says something else")""",
        f"""class Dropped:
        def __del__(self):
            {SIGNAL}
    Dropped()
    return ["x"] * 5""",
    ],
)
def test_control_c_while_a_command_works(body):
    assert run(INSIDE.format(body=body)) == (130, "", "\ninterrupted\n")


def test_control_c_is_not_for_a_command_in_the_background():
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code, printed, said = run(ignored + AT_IMPORT, "typer", "machines")
    assert (code, said) == (0, "")
    assert "edge-npu" in printed


def test_what_is_no_interruption_is_left_to_python():
    defect = (
        "class Defect:\n        def __del__(self):\n            1 / 0\n    Defect()\n    exit(3)"
    )
    code, _, said = run(INSIDE.format(body=defect))
    assert code == 3
    assert said.startswith("Exception ignored in: <function ")
    assert said.endswith("ZeroDivisionError: division by zero\n")


def test_the_entry_point_imports_nothing_before_it_hears():
    program = "import sys; before = set(sys.modules); import accelsim.__main__; " + (
        "print(sorted(name for name in set(sys.modules) - before if name.startswith('accelsim')))"
    )
    _, printed, _ = run(program)
    assert printed == (
        "['accelsim', 'accelsim.__main__', 'accelsim.runtime', 'accelsim.runtime.leaving', "
        "'accelsim.version']\n"
    )


def test_the_command_starts_there():
    text = (Path(accelsim.__file__).parents[1] / "pyproject.toml").read_text()
    assert 'accelsim = "accelsim.__main__:main"' in text
