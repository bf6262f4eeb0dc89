"""Estimates of time for many candidates at once: a size is an array, one element a candidate.

They follow the rules of the engine on one core, and place the work items on all; a kernel takes
the tiles of the lowest estimate.
"""
