"""The version of accelsim, read by the build and written into every result."""

VERSION = "0.2.0"
