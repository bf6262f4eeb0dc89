"""Output that cannot be written is one line; text that cannot be shown is replaced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import accelsim
from accelsim.cli.streams import _nearest_of

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(accelsim.__file__).parents[1])}
COMMANDS = ["machines", "workloads", "kernels", "schema machine", "--version", "--help", "run -h"]


def bash(redirected: str, encoding: str = "utf-8", **variables: str) -> tuple[int, str, str]:
    """Run a command of accelsim with the redirections of a shell."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m accelsim {redirected}"],
        capture_output=True,
        encoding=encoding,
        env=ENVIRONMENT | variables,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", COMMANDS)
def test_a_full_disk_behind_standard_output(words):
    message = "standard output: cannot be written: No space left on device\n"
    assert bash(f"{words} > /dev/full") == (2, "", message)


@pytest.mark.parametrize("words", ["machines", "--version"])
def test_no_standard_output_at_all(words):
    message = "standard output: cannot be written: Bad file descriptor\n"
    assert bash(f"{words} >&-") == (2, "", message)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_pipe_that_nobody_reads_ends_quietly(words):
    assert bash(f"{words} | true") == (1, "", "")


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_messages_that_cannot_be_written_are_dropped(where):
    assert bash(f"sweep absent.yaml --out out {where}") == (2, "", "")


def test_the_file_that_follows_a_missing_stream_is_not_written_to(tmp_path):
    folder = tmp_path / "out"
    code, _, said = bash(f"sweep absent.yaml --out {folder} <&- >&-")
    assert (code, said) == (2, "absent.yaml: no such file\n")


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_an_ascii_terminal_gets_ascii(variables):
    code, printed, said = bash("machines", **variables)
    assert (code, said) == (0, "")
    assert printed.startswith("+---")
    assert printed.isascii()


@pytest.mark.parametrize(
    ("encoding", "name"), [("ascii", "u2-e?"), ("latin-1", "µ²-é?"), ("cp437", "µ²─é?")]
)
def test_a_message_in_any_encoding(encoding, name):
    variables = {"PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"}
    code, _, said = bash("sweep 'µ²─é👩.yaml' --out out", encoding=encoding, **variables)
    assert (code, said) == (2, f"{name}.yaml: no such file\n")


def test_the_bytes_of_a_name_that_is_no_text_are_escaped():
    code, _, said = bash("sweep $'a\\xff.yaml' --out out")
    assert (code, said) == (2, "a\\udcff.yaml: no such file\n")


@pytest.mark.parametrize(
    ("character", "nearest"),
    [
        *zip("\u00b5\u03bc²³é\u00b7\u00d7─━│┃┌┏┼╇", "uu23e*x--||++++", strict=True),
        ("…", "..."),
        ("\udcff", "\\udcff"),
        ("中", "?"),
    ],
)
def test_the_nearest_of_a_character(character, nearest):
    assert _nearest_of(character) == nearest
