"""The version of accelsim, read by the build and written into every result."""

VERSION = "0.1.0"
