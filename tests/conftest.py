"""Property-based tests draw the same examples every time and carry no deadline."""

import os
import signal

import pytest
from hypothesis import settings

from accelsim.program.shared import PROGRAMS

# A job in the background ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is under test is simulated, whatever was simulated before.
os.environ["ACCELSIM_REMEMBER"] = "no"

settings.register_profile("accelsim", derandomize=True, deadline=None)
settings.load_profile("accelsim")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )


@pytest.fixture(autouse=True)
def _nothing_recorded_before():
    """Let every test record its own programs, whatever ran before it."""
    PROGRAMS.forget()
