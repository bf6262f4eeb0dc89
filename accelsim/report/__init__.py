"""The result of one run."""
