"""The algorithms: one a file, each recording its program and computing its numbers in one loop."""
