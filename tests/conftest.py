"""Property-based tests draw the same examples every time and carry no deadline."""

import signal

from hypothesis import settings

# A job in the background ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("accelsim", derandomize=True, deadline=None)
settings.load_profile("accelsim")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )
