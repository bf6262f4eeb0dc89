"""Algorithms of collectives, one a file: a collective -> a function that gives its rounds."""
