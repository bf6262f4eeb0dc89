"""Property-based tests draw the same examples every time and carry no deadline."""

from hypothesis import settings

settings.register_profile("accelsim", derandomize=True, deadline=None)
settings.load_profile("accelsim")


def pytest_addoption(parser):
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing"
    )
