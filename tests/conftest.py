"""Property-based tests draw the same examples every time and carry no deadline."""

from hypothesis import settings

settings.register_profile("accelsim", derandomize=True, deadline=None)
settings.load_profile("accelsim")
