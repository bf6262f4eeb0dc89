"""Decode kernels: every row of Q is a step of a generation."""
