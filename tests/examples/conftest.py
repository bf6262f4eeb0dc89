"""The command line as a user has it: real machines, real kernels, nothing replaced."""

import pytest
from typer.testing import CliRunner

from accelsim.cli.main import app


@pytest.fixture
def accelsim_command(tmp_path, monkeypatch):
    """Run the command line in an empty folder; the result has exit_code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def file(tmp_path):
    """Write a text or bytes to a file in the working folder; return its name."""

    def write(name, content):
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return name

    return write
