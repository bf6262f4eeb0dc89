"""The version of accelsim, read by the build and written into every result."""

from time import time_ns

VERSION = "0.2.0"
STARTED_NS = time_ns()
"""When this process began to load accelsim, in nanoseconds since 1970."""
