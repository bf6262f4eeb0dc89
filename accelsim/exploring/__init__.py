"""Searching a design space for what is best, without running all of it."""
